/* Sleeping and waking (ring/wait.h): two threads of a guest and the device's consumer, on x86 with its store
 * buffers, with sleeps that never end by themselves.
 *
 * Proven of every interleaving: nobody sleeps for ever for what has happened (every run ends, and ends with all
 * records executed and all guest threads done). The names are those of the code.
 *
 * Variants: who fences between its store and its load?
 *   WAKER_MFENCE        GuestWaits::notify_consumer, ConsumerWaits::notify_guest and ::store_progress do
 *   SLEEPER_MFENCE      GuestWaits::wait and ConsumerWaits::wait do
 *   SLEEPER_MEMBARRIER  they ask the kernel to run a barrier on every registered process instead
 *   UNREGISTERED        ... but the wakers' processes did not register
 * Mistakes, which the check must find: FLAG_NOT_COUNT, BELL_READ_LATE, SAME_ANNOUNCEMENT.
 */
#define THREADS 3
#define DEPTH 4

/* Words of the region (and the guest's two locks). */
#define PUBLISHED 0     /* how many commit words the guest has stored: they lie one behind the other */
#define PARKED 1        /* ParkBlock::consumer_parked */
#define DOORBELL 2      /* DoorbellBlock::doorbell */
#define TAG 3           /* ReplySlot::tag: a slot for each guest thread */
#define ON_REPLY 5      /* GuestParkBlock::on_reply */
#define COMPLETED 6     /* ConsumerBlock::completed */
#define ON_COMPLETED 7  /* GuestParkBlock::on_completed */
#define RING_LOCK 8     /* Session::ring_lock_ */
#define ANNOUNCE_LOCK 9 /* GuestWaits::announce_mutex_ */
#define WORDS 10

#define DEVICE 2 /* threads 0 and 1 are the guest's */

#ifdef UNREGISTERED
#define is_registered(t) false
#else
#define is_registered(t) true
#endif

#include "tso.pml"

#ifdef WAKER_MFENCE
#define waker_fence() mfence()
#else
#define waker_fence() skip
#endif

#if defined(SLEEPER_MFENCE)
#define sleeper_fence() mfence()
#elif defined(SLEEPER_MEMBARRIER)
#define sleeper_fence() membarrier()
#else
#define sleeper_fence() skip
#endif

#define RECORDS 3
#define NO_REPLY 255

/* What belongs to the guest's process and is guarded by its locks. */
byte position;              /* Producer::position_, in records */
byte reply_slot[RECORDS];   /* RecordHeader::reply_slot of the record with this number */
byte sleepers_on_reply;     /* GuestWaits::sleepers_ */
byte sleepers_on_completed;
byte rung_for;              /* GuestWaits::rung_for_ */

byte executed; /* by the device */

/* Producer::publish, GuestWaits::notify_consumer; under the ring's lock, as Session::commit_and_publish. */
inline submit(slot) {
  atomic {
    lock(RING_LOCK);
    reply_slot[position] = slot;
    position++;
    end_of_mine = position;
    store(PUBLISHED, position)
  }
  waker_fence();
  if
  :: atomic {
       load(PARKED) != 0 && load(PARKED) != rung_for ->
       rung_for = load(PARKED)
     }
     atomic { /* GuestWaits::ring_doorbell */
       load_own(DOORBELL, value);
       store(DOORBELL, value + 1);
       value = 0
     }
     futex_wake(DOORBELL)
  :: else
  fi;
  unlock(RING_LOCK)
}

/* GuestWaits::announce */
inline announce(count, word, change) {
  atomic {
    lock(ANNOUNCE_LOCK);
    count = count + change;
#ifdef FLAG_NOT_COUNT
    store(word, (change > 0))
#else
    store(word, count)
#endif
  }
  unlock(ANNOUNCE_LOCK)
}

/* GuestWaits::wait. Its spinning may end at once with or without the answer. */
inline wait(count, announcement, word) {
  if
  :: load(word) >= end_of_mine
  :: true ->
     announce(count, announcement, 1);
     sleeper_fence();
     do
     :: load(word) >= end_of_mine -> break
     :: atomic { load(word) < end_of_mine -> value = load(word) }
        futex_wait(word, value)
     od;
     atomic {
       value = 0;
       announce(count, announcement, -1)
     }
  fi
}

/* Both wait for a reply at once; thread 1 then for a record without a reply to be completed. */
proctype guest(byte me) {
  byte value, at, end_of_mine;
  submit(me);
  wait(sleepers_on_reply, ON_REPLY, TAG + me);
  if
  :: me == 1 ->
     submit(NO_REPLY);
     wait(sleepers_on_completed, ON_COMPLETED, COMPLETED)
  :: else
  fi
}

/* ChannelServer::run and serve_batch, with ConsumerWaits::wait written out. */
proctype device() {
  byte me = DEVICE;
  byte at, seen, slot, completed, announcement;
  do
  :: /* Consumer::try_read */
     if
     :: atomic {
          load(PUBLISHED) > executed ->
          slot = reply_slot[executed];
          executed++
        }
        if
        :: slot != NO_REPLY ->
           store(TAG + slot, executed); /* write_reply */
           waker_fence();               /* ConsumerWaits::notify_guest */
           if
           :: load(ON_REPLY) != 0 -> futex_wake(TAG + slot)
           :: else
           fi
        :: else
        fi;
        slot = 0
     :: atomic {
          load(PUBLISHED) == executed ->
          if
          :: executed != completed ->
             store(COMPLETED, executed); /* ConsumerWaits::store_progress */
             completed = executed
          :: else -> goto park
          fi
        }
        waker_fence();
        if
        :: load(ON_COMPLETED) != 0 -> futex_wake(COMPLETED)
        :: else
        fi;
park:   /* ConsumerWaits::wait */
#ifndef BELL_READ_LATE
        seen = load(DOORBELL);
#endif
#ifdef SAME_ANNOUNCEMENT
        announcement = 1;
#else
        announcement++;
#endif
        store(PARKED, announcement);
        sleeper_fence();
        if
        :: load(PUBLISHED) == executed ->
#ifdef BELL_READ_LATE
           seen = load(DOORBELL);
#endif
           atomic {
             buffered[me] == 0;
             if
             :: load(DOORBELL) == seen -> asleep[me] = true; asleep_on[me] = DOORBELL
             :: else
             fi
           }
end_idle:
           !asleep[me]
        :: else
        fi;
        atomic {
          store(PARKED, 0);
          seen = 0
        }
     fi
  od
}

init {
  atomic {
    run store_buffer(0);
    run store_buffer(1);
    run store_buffer(2);
    run guest(0);
    run guest(1);
    run device()
  }
  /* Nothing can happen any more. */
  timeout;
  assert(executed == RECORDS);
  assert(mem[ON_REPLY] == 0 && mem[ON_COMPLETED] == 0)
}
