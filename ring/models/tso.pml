/* The memory of an x86 machine for the models: each hardware thread has a store buffer, first in, first out. A
 * store is visible to others when it leaves the buffer, at any later time; a thread sees its own stores at once.
 * An mfence waits until the buffer is empty; so does every locked instruction and every system call used here.
 * The including model defines THREADS (3), WORDS and DEPTH (a buffer's room). */

byte mem[WORDS];
byte buffer_word[THREADS * DEPTH];
byte buffer_value[THREADS * DEPTH];
byte buffered[THREADS];
/* Futexes: the word a thread sleeps on. */
bool asleep[THREADS];
byte asleep_on[THREADS];

inline store(word, value) {
  atomic {
    buffered[me] < DEPTH;
    buffer_word[me * DEPTH + buffered[me]] = word;
    buffer_value[me * DEPTH + buffered[me]] = value;
    buffered[me]++
  }
}

/* A load of a word that this thread never stores to. */
#define load(word) mem[word]

/* A load of a word that this thread also stores to: the newest own store wins. */
inline load_own(word, value) {
  d_step {
    value = mem[word];
    at = 0;
    do
    :: at < buffered[me] ->
       if
       :: buffer_word[me * DEPTH + at] == word -> value = buffer_value[me * DEPTH + at]
       :: else
       fi;
       at++
    :: else -> break
    od;
    at = 0
  }
}

inline mfence() {
  buffered[me] == 0
}

/* membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED): between its begin and its end every other thread of a registered
 * process passes a full barrier, each at a moment of its own. `is_registered(thread)` is the model's. A barrier that
 * an interrupt brings empties the buffer where it stands; stores leave the buffer at any moment anyway, so it is
 * enough to wait for a moment when the buffer is empty. */
#define passes_barrier(thread) (!is_registered(thread) || buffered[thread] == 0)
#define NEXT_THREAD ((me + 1) % THREADS)
#define THIRD_THREAD ((me + 2) % THREADS)
inline membarrier() {
  buffered[me] == 0;
  if
  :: passes_barrier(NEXT_THREAD) -> passes_barrier(THIRD_THREAD)
  :: passes_barrier(THIRD_THREAD) -> passes_barrier(NEXT_THREAD)
  fi
}

/* A lock taken by a locked instruction and given back by a plain store. */
inline lock(word) {
  atomic { buffered[me] == 0 && mem[word] == 0 -> mem[word] = 1 }
}
inline unlock(word) {
  store(word, 0)
}

/* FUTEX_WAIT: the kernel compares and goes to sleep in one step. No time-out and no other early end: a lost
 * wake-up is for ever. */
inline futex_wait(word, expected) {
  atomic {
    buffered[me] == 0;
    if
    :: mem[word] == expected -> asleep[me] = true; asleep_on[me] = word
    :: else
    fi
  }
  !asleep[me]
}

/* FUTEX_WAKE with INT_MAX. */
inline futex_wake(word) {
  atomic {
    buffered[me] == 0;
    at = 0;
    do
    :: at < THREADS ->
       if
       :: asleep[at] && asleep_on[at] == word -> asleep[at] = false; asleep_on[at] = 0
       :: else
       fi;
       at++
    :: else -> break
    od;
    at = 0
  }
}

/* What empties a thread's buffer, a store at a time. */
proctype store_buffer(byte me) {
  byte at;
end:
  do
  :: d_step {
       buffered[me] > 0 ->
       mem[buffer_word[me * DEPTH]] = buffer_value[me * DEPTH];
       buffered[me]--;
       at = 0;
       do
       :: at < buffered[me] ->
          buffer_word[me * DEPTH + at] = buffer_word[me * DEPTH + at + 1];
          buffer_value[me * DEPTH + at] = buffer_value[me * DEPTH + at + 1];
          at++
       :: else -> break
       od;
       /* Unused room always looks alike, so that equal states are one state. */
       buffer_word[me * DEPTH + buffered[me]] = 0;
       buffer_value[me * DEPTH + buffered[me]] = 0;
       at = 0
     }
  od
}
