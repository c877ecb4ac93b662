/* A channel's life (ring/channel.h, ring/heartbeat.h, device/server/channel_server.h): processes claim it one after
 * the other, use it, release it or are killed at any step; the device serves, resets, and may be killed and started
 * anew over the same memory at any step. Loads and stores happen in program order here: the one place where that is
 * not so on x86 is the sleeping handshake, which park.pml has. Only a doorbell ends the device's sleep, no time-out.
 *
 * Proven of every interleaving:
 *   - a record is executed only for the owner that wrote it;
 *   - two processes never both think that they are served, and none writes into another's channel;
 *   - every claim ends: served, refused, or told that the device is gone;
 *   - a work context is cancelled only when its owner has left, died or given way;
 *   - when all is quiet, nothing of a gone owner is kept, and a new owner finds nothing of an old one.
 *
 * GUESTS (2 or 3), GUEST_KILLS, DEVICE_KILLS: how many, how often. UNSEEN_LOCKS: the device cannot see the owners'
 * locks (a VM). REAPER: a process that attaches releases the channel of a dead owner, at any moment, and once more
 * when all is quiet; it may be killed, too. Mistakes, which the check must find: IDLE_WITHOUT_NONCE, STALE_PROBE, NO_DISCARD_BETWEEN,
 * UNLOCK_BEFORE_EXIT, NO_GENERATION, NO_RESET, ONE_NONCE_LOOK, REAP_WITHOUT_LOCK, LATE_CLEAR (which only a search for cycles finds).
 */
#ifndef GUESTS
#define GUESTS 2
#endif
#ifndef GUEST_KILLS
#define GUEST_KILLS 1
#endif
#ifndef DEVICE_KILLS
#define DEVICE_KILLS 0
#endif

/* The region. A nonce is the number of the guest, 1.. */
byte generation;       /* RegionHeader::generation; 0: the magic is not there */
byte owner_nonce;      /* OwnerBlock::nonce */
byte owner_generation; /* OwnerBlock: its other fields, written by owner_pid */
byte owner_pid;
byte served_nonce;     /* ServedBlock::served_nonce */
bool state_failed;     /* ServedBlock::state is kFailed */
byte record;           /* the ring: who wrote the record at its start, 0: no commit word */
byte bulk;             /* whose data lies in the bulk heap, 0: nothing */
bool rung;             /* the doorbell is not what the device saw last */

/* The kernel. */
byte lock_holder;      /* of the channel's byte, 0: nobody */
bool device_alive;     /* the guests' watch sees it by state and heartbeat */
bool device_asleep;

/* The device's process, beside what is local to its thread. */
byte context;          /* whose work context there is */
bool context_locked;   /* ChannelServer::context_mutex_, held by the watcher */
byte server_nonce;     /* ChannelServer::served_nonce_ */
bool owner_dead;       /* ChannelServer::owner_dead_ */
bool watcher_runs;

/* Killing, and what only the proof sees. */
bool device_victim;
bool here[GUESTS + 1]; /* guests whose process exists */
byte attached_to[GUESTS + 1]; /* FoundRegion::generation of each */
byte believer;         /* who thinks that it is served */
byte incarnations;

#define device_lost (generation != attached_to[me] || !device_alive) /* DeviceWatch::check */

inline ring_doorbell() { /* GuestWaits::ring_doorbell */
  atomic {
    rung = true;
    device_asleep = false
  }
}

/* The kernel ends a guest's process. */
inline end_process(who) {
  if
  :: believer == who -> believer = 0
  :: else
  fi;
  if
  :: lock_holder == who -> lock_holder = 0
  :: else
  fi;
  attached_to[who] = 0;
  here[who] = false
}

/* A guest's store into the channel that it thinks is its own. */
#define writes_own_channel (believer == me)

proctype guest(byte me) {
  bool posted;
  {
    /* check_region */
    atomic {
      attached_to[me] = generation;
      if
      :: attached_to[me] == 0 -> goto gone
      :: else
      fi;
#if DEVICE_KILLS == 0
      lock_holder == 0 -> lock_holder = me
#endif
    }
    /* ChannelClaim::take. Who finds the channel taken comes again. */
#if DEVICE_KILLS > 0
    atomic { lock_holder == 0 -> lock_holder = me }
#endif
    owner_nonce = 0;
    atomic { owner_pid = me; owner_generation = attached_to[me] }
    owner_nonce = me;
    ring_doorbell();
    if
    :: atomic { served_nonce == me && !state_failed -> assert(believer == 0); believer = me }
    :: atomic { served_nonce == me && state_failed -> goto leave }
    :: device_lost -> goto leave
    fi;
    /* Session: a record and bulk data. An asynchronous call does not look whether the device still lives. */
    if
    :: atomic { assert(writes_own_channel); bulk = me; posted = true }
       atomic { assert(writes_own_channel && record == 0); record = me }
       ring_doorbell();
       if
       :: true /* the call was asynchronous */
       :: record == 0 || device_lost || served_nonce != me /* wait_while_alive */
       fi
    :: true
    fi;
leave:
    /* Session::close_at_exit, ChannelClaim::leave_at_exit. The kernel gives the lock back when the process is gone;
     * other threads of it may still write meanwhile. */
    atomic {
      owner_nonce = 0;
#ifdef UNLOCK_BEFORE_EXIT
      lock_holder = 0;
#endif
      if
      :: believer == me -> believer = 0
      :: else
      fi
    }
    ring_doorbell();
    if
    :: atomic { posted -> assert(believer == 0); bulk = me }
    :: true
    fi;
gone:
    skip
  } unless { !here[me] }
  d_step {
    end_process(me);
    posted = false
  }
}

#ifdef REAPER
#define REAPERS_LOCK (GUESTS + 1)
bool reaper_here;

/* release_dead_owners, for the one channel there is */
proctype reaper() {
  byte dead;
  {
    if
#ifdef REAP_WITHOUT_LOCK
    :: owner_nonce != 0 ->
#else
    :: owner_nonce != 0 ->
       if
       :: atomic { lock_holder == 0 -> lock_holder = REAPERS_LOCK }
       :: else -> goto done
       fi;
#endif
       dead = owner_nonce;
       if
       :: dead != 0 ->
          owner_nonce = 0;
          ring_doorbell();
          if
          :: served_nonce != dead
          :: true /* it waits so long and no longer */
          fi
       :: else
       fi
    :: else
    fi;
done:
    skip
  } unless { !reaper_here }
  d_step {
    if
    :: lock_holder == REAPERS_LOCK -> lock_holder = 0
    :: else
    fi;
    reaper_here = false;
    dead = 0
  }
}
#endif

/* ---- the device ---- */

#define owner_changed (owner_nonce != server_nonce)

#ifdef UNSEEN_LOCKS
#define lock_is_free false
#else
#define lock_is_free (lock_holder == 0) /* probe_channel_lock */
#endif

/* ChannelOwnership::reset_memory */
inline reset_memory() {
  atomic {
    served_nonce = 0;
#ifndef NO_RESET
    record = 0
#endif
  }
}

/* ChannelServer::end_owner. A section under the mutex is one step: the watcher alone could see into it. */
inline end_owner() {
  atomic {
    !context_locked;
    server_nonce = 0;
    owner_dead = false;
    context = 0
  }
}

#define EVENT_NONE 0
#define EVENT_NEW 1
#define EVENT_GONE 2

/* ChannelOwnership::poll with the lock's probe before it, and read_owner. Sets event and candidate. */
inline poll() {
  probed_free = lock_is_free;
  atomic {
    nonce = owner_nonce;
    if
    :: served != 0 && (probed_free || nonce == 0) -> event = EVENT_GONE
    :: served != 0 && !probed_free && nonce == served -> event = EVENT_NONE
    :: served == 0 && (nonce == 0 || nonce == retired || probed_free) -> event = EVENT_NONE
    :: else -> event = EVENT_NEW
    fi;
    probed_free = false;
    nonce = 0
  }
  if
  :: event == EVENT_NEW -> /* read_owner */
     nonce = owner_nonce;
     atomic { candidate_pid = owner_pid; candidate_generation = owner_generation }
     atomic {
       if
#ifdef ONE_NONCE_LOOK
       :: nonce != 0 && nonce != served && nonce != retired ->
#else
       :: nonce != 0 && owner_nonce == nonce && nonce != served && nonce != retired ->
#endif
          candidate = nonce;
          assert(candidate_pid == candidate || candidate_generation != generation)
       :: else -> event = EVENT_NONE
       fi;
       candidate_pid = 0;
       nonce = 0
     }
  :: else
  fi
}

proctype device() {
  byte served, retired;                                /* ChannelOwnership */
  byte candidate, candidate_pid, candidate_generation; /* its owner_ */
  byte nonce, looked, event;
  bool probed_free, done;
restart:
  {
    /* format_region */
    generation = 0;
    owner_nonce = 0;
    atomic { owner_pid = 0; owner_generation = 0 }
    atomic { served_nonce = 0; state_failed = false; record = 0; bulk = 0; rung = false }
    atomic {
      incarnations++;
      generation = incarnations;
      device_alive = true;
      watcher_runs = true;
      run watcher()
    }
    /* ChannelServer::run */
    do
    :: /* look_at_owner */
       looked = owner_nonce;
       if
       :: atomic { server_nonce != 0 && !owner_changed && !owner_dead -> event = EVENT_NONE }
       :: else ->
#ifndef LATE_CLEAR
          owner_dead = false; /* before the probe: what the watcher finds after it stays */
#endif
          poll()
       fi;
       if
       :: event == EVENT_NEW ->
          end_owner();
#ifndef NO_DISCARD_BETWEEN
          bulk = 0;
#endif
          /* begin_owner */
          if
#ifndef NO_GENERATION
          :: candidate_generation != generation -> /* ChannelOwnership::refuse */
             reset_memory();
             atomic { served = candidate; state_failed = true; served_nonce = served }
          :: else ->
#else
          :: true ->
#endif
             atomic {
               !context_locked;
               context = candidate;
               owner_dead = false;
               server_nonce = candidate;
               done = false;
               /* ChannelOwnership::serve */
               reset_memory()
             }
             atomic {
               served = candidate;
               assert(context == served && bulk == 0 && (!here[served] || attached_to[served] == generation));
               state_failed = false;
               served_nonce = served
             }
          fi;
          atomic { retired = 0; candidate = 0; candidate_generation = 0; event = EVENT_NONE }
       :: event == EVENT_GONE ->
          end_owner();
          /* ChannelOwnership::vacate */
          atomic {
            retired = served;
            served = 0;
            reset_memory()
          }
          atomic { state_failed = false; bulk = 0; event = EVENT_NONE }
       :: event == EVENT_NONE ->
          if
          :: atomic { /* serve_batch: a record is copied, then executed */
               server_nonce != 0 && !owner_dead && !done && record != 0 ->
               assert(record == served && context == served);
               done = true;
               record = 0 /* as the guest sees it: completed */
             }
          :: else ->
#ifdef LATE_CLEAR
             owner_dead = false;
#endif
             /* ConsumerWaits::wait; park.pml has its handshake */
             rung = false;
             if
             :: owner_dead
             :: server_nonce != 0 && !done && record != 0
#ifdef IDLE_WITHOUT_NONCE
             :: server_nonce != 0 && owner_changed
#else
             :: owner_nonce != looked
#endif
             :: else ->
                atomic {
                  if
                  :: !rung -> device_asleep = true; looked = 0
                  :: else
                  fi
                }
end_idle:
                !device_asleep
             fi
          fi
       fi
    od
  } unless { device_victim }
  /* Its process is gone, and all that it held. */
  atomic {
    !watcher_runs ->
    device_alive = false;
    device_asleep = false;
    device_victim = false;
    context = 0;
    context_locked = false;
    server_nonce = 0;
    owner_dead = false;
    served = 0;
    retired = 0;
    candidate = 0;
    candidate_pid = 0;
    candidate_generation = 0;
    event = 0;
    looked = 0;
    nonce = 0;
    probed_free = false;
    done = false;
    if
    :: goto restart
    :: true
    fi
  }
}

/* ChannelServer::watch, on the device's main thread, again and again; here whenever it could change something. */
proctype watcher() {
  bool gone;
  {
end_watch:
    do
    :: atomic {
         server_nonce != 0 && (lock_is_free || owner_changed) && (!owner_dead || device_asleep) ->
         gone = lock_is_free
       }
       if
       :: atomic {
            (gone || owner_changed) && !context_locked ->
            context_locked = true;
#ifndef STALE_PROBE
            gone = lock_is_free
#endif
          }
          if
          :: atomic {
               server_nonce != 0 && (gone || owner_changed) ->
               assert(context == 0 || !here[context] || owner_nonce != context);
               owner_dead = true
             }
          :: else
          fi;
          atomic { context_locked = false; device_asleep = false }
       :: else
       fi;
       gone = false
    od
  } unless { device_victim }
  watcher_runs = false
}

/* Kills at any moment. */
proctype killer() {
  byte guest_kills = GUEST_KILLS, device_kills = DEVICE_KILLS;
end_kill:
  do
  :: atomic { guest_kills > 0 && here[1] -> guest_kills--; end_process(1) }
  :: atomic { guest_kills > 0 && here[2] -> guest_kills--; end_process(2) }
#if GUESTS > 2
  :: atomic { guest_kills > 0 && here[3] -> guest_kills--; end_process(3) }
#endif
#ifdef REAPER
  :: atomic { guest_kills > 0 && reaper_here -> guest_kills--; reaper_here = false }
#endif
  :: atomic { device_kills > 0 && device_alive && !device_victim -> device_kills--; device_victim = true }
  od
}

init {
  atomic {
    run device();
    here[1] = true;
    run guest(1);
    here[2] = true;
    run guest(2);
#if GUESTS > 2
    here[3] = true;
    run guest(3);
#endif
#ifdef REAPER
    reaper_here = true;
    run reaper();
#endif
    run killer()
  }
  /* Nothing can happen any more. */
  timeout;
#ifdef REAPER
  atomic { !reaper_here -> reaper_here = true; run reaper() }
  timeout;
#endif
  assert(!here[1] && !here[2] && believer == 0);
  assert(!device_alive || device_asleep);
#if !defined(UNSEEN_LOCKS) || (defined(REAPER) && GUEST_KILLS == 1)
  /* A reaper that is killed leaves a dead owner only if the killing of both was allowed. */
  assert(context == 0)
#endif
}
