/* Records published in band (ring/producer.h, ring/consumer.h) on a ring of SLOTS slots: records of 1 to LONGEST slots,
 * batches, padding at the wrap, the cleared word behind a batch, the producer's copy of `consumed`.
 *
 * Proven of every interleaving: the consumer reads each record once, whole and in order; it never sees a word that
 * is not a record's of its position, and never a slot that is being overwritten; neither side waits for ever.
 *
 * The producer's stores wait in a buffer that they leave in any order, except that stores to one word stay in order
 * and a release store leaves after everything before it: weaker than x86, and what the code's release stores promise
 * on any machine. WRITE_COMBINING: no order at all between stores, but what store_fence makes (`weakly_ordered`).
 * Mistakes, which the check must find: NO_CLEAR, NO_FREE_SLOT, CONSUMED_EARLY, RELAXED_COMMIT, NO_STORE_FENCE.
 */
#ifndef SLOTS
#define SLOTS 4
#endif
#ifndef LONGEST
#define LONGEST 2
#endif
#ifndef END
#define END 9 /* the producer stops at the first record that ends here or behind */
#endif
#define ROOM 6 /* of the buffer */

/* A slot's first word holds a commit word, or 0, or a payload that looks like the commit word of the next lap. Its
 * other bytes hold the record's number, and in a record's first slot whether it is padding. A commit word is
 * position + 1 (the sequence) and the slots; here the position alone, + 1, and the slots in an own array. */
byte word[SLOTS];
byte slots[SLOTS];
byte payload[SLOTS];
#define PADDING 255

byte buffered;
byte buffer_kind[ROOM];
byte buffer_slot[ROOM];
byte buffer_value[ROOM];
byte buffer_slots[ROOM];
#define WORD 1
#define RELEASED_WORD 2
#define PAYLOAD 3

byte consumed; /* ConsumerBlock::consumed, one release store each: never early, and late is as if it came later */

/* What was written, for the proof: by start position. */
byte written[END + 2 * LONGEST];
byte produced;
bool ended;

inline store(kind, slot, value, count) {
  atomic {
    buffered < ROOM;
    buffer_kind[buffered] = kind;
    buffer_slot[buffered] = slot;
    buffer_value[buffered] = value;
    buffer_slots[buffered] = count;
    buffered++
  }
}

/* The stores on their way. */
#define is_word(kind) (kind != PAYLOAD)
proctype memory() {
  byte i, j;
  bool may;
end:
  do
  :: atomic {
       buffered > 0 ->
       i = 0;
       do
       :: i + 1 < buffered -> i++
       :: break
       od;
       may = true;
       j = 0;
       do
       :: j < i ->
          if
          :: buffer_slot[j] == buffer_slot[i] && is_word(buffer_kind[j]) == is_word(buffer_kind[i]) -> may = false
#ifndef WRITE_COMBINING
          :: buffer_kind[i] == RELEASED_WORD -> may = false
#endif
          :: else
          fi;
          j++
       :: else -> break
       od;
       if
       :: may ->
          if
          :: is_word(buffer_kind[i]) ->
             word[buffer_slot[i]] = buffer_value[i];
             slots[buffer_slot[i]] = buffer_slots[i]
          :: else -> payload[buffer_slot[i]] = buffer_value[i]
          fi;
          buffered--;
          do
          :: i < buffered ->
             buffer_kind[i] = buffer_kind[i + 1];
             buffer_slot[i] = buffer_slot[i + 1];
             buffer_value[i] = buffer_value[i + 1];
             buffer_slots[i] = buffer_slots[i + 1];
             i++
          :: else -> break
          od;
          buffer_kind[i] = 0;
          buffer_slot[i] = 0;
          buffer_value[i] = 0;
          buffer_slots[i] = 0
       :: else
       fi;
       i = 0; j = 0; may = false
     }
  od
}

inline store_fence() {
#if defined(WRITE_COMBINING) && !defined(NO_STORE_FENCE)
  buffered == 0
#else
  skip
#endif
}

#ifdef NO_FREE_SLOT
#define KEPT_FREE 0
#else
#define KEPT_FREE 1
#endif

/* Producer::finish */
inline finish(count) {
  if
  :: position == batch_start -> batch_slots = count
  :: else -> store(WORD, position % SLOTS, position + 1, count)
  fi;
  position = position + count
}

/* Producer::publish */
inline publish() {
#ifndef NO_CLEAR
  store(WORD, position % SLOTS, 0, 0);
#endif
  store_fence();
#ifdef RELAXED_COMMIT
  store(WORD, batch_start % SLOTS, batch_start + 1, batch_slots);
#else
  store(RELEASED_WORD, batch_start % SLOTS, batch_start + 1, batch_slots);
#endif
  store_fence();
  batch_start = position
}

proctype producer() {
  byte position, batch_start, batch_slots, cached_consumed, need, padding, end, i;
  do
  :: position < END ->
     need = 1;
     do
     :: need < LONGEST -> need++
     :: break
     od;
     /* Producer::try_reserve */
     padding = (need <= SLOTS - position % SLOTS -> 0 : SLOTS - position % SLOTS);
     end = position + padding + need + KEPT_FREE;
     if
     :: end - cached_consumed > SLOTS ->
        cached_consumed = consumed;
        if
        :: end - cached_consumed > SLOTS ->
           /* Full: what is committed must be visible before one waits for room. */
           if
           :: position != batch_start -> publish()
           :: else
           fi;
           atomic { end - consumed <= SLOTS -> cached_consumed = consumed }
        :: else
        fi
     :: else
     fi;
     /* The caller writes the record in place; then Producer::commit. */
     i = 0;
     do
     :: i < need ->
        store(PAYLOAD, (position + padding + i) % SLOTS, produced + 1, 0);
        if
        :: i > 0 -> store(WORD, (position + padding + i) % SLOTS, position + padding + i + SLOTS + 1, 1)
        :: else
        fi;
        i++
     :: else -> break
     od;
     if
     :: padding != 0 ->
        store(PAYLOAD, position % SLOTS, PADDING, 0);
        finish(padding)
     :: else
     fi;
     atomic {
       produced++;
       written[position] = need
     }
     finish(need);
     i = 0; need = 0; padding = 0; end = 0;
     if
     :: publish()
     :: true /* a longer batch */
     fi
  :: else -> break
  od;
  if
  :: position != batch_start -> publish()
  :: else
  fi;
  ended = true
}

/* Consumer::try_read, and its caller, who gives space back when the ring is empty at the latest. */
proctype consumer() {
  byte position, read, count, i, given_back;
end_empty:
  do
  :: atomic { /* the commit word: one load */
       word[position % SLOTS] != 0 ->
       assert(word[position % SLOTS] == position + 1);
       count = slots[position % SLOTS]
     }
     assert(count >= 1 && count <= SLOTS - position % SLOTS);
     if
     :: payload[position % SLOTS] == PADDING ->
        assert(count == SLOTS - position % SLOTS);
        position = position + count
     :: else ->
        assert(written[position] == count);
#ifdef CONSUMED_EARLY
        consumed = position + count;
#endif
        i = 0;
        do
        :: i < count ->
           assert(payload[(position + i) % SLOTS] == read + 1);
           i++
        :: else -> break
        od;
        read++;
        position = position + count
     fi;
     i = 0; count = 0
  :: atomic {
       given_back != position ->
       consumed = position; /* pairs with the load in try_reserve */
       given_back = position
     }
  od
}

init {
  atomic {
    run memory();
    run producer();
    run consumer()
  }
  timeout;
  assert(ended && consumed >= END)
}
