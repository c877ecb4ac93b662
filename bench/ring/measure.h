// The measuring code, once for all links: streams, round trips, and what a send costs the sender. Each
// measurement makes its own link and peer, and lasts for the round's budget.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "bench/harness/child.h"
#include "bench/harness/clock.h"
#include "bench/harness/placement.h"
#include "bench/harness/shared_memory.h"
#include "bench/harness/suite.h"
#include "bench/ring/link.h"
#include "ring/access.h"

namespace vgpu::bench {

// The other side: a process, or a thread where the link says so. Either way its failure ends the program.
template <bool Thread>
class Peer {
 public:
  Peer(int processor, std::function<void()> body) {
    const auto pinned = [processor, body = std::move(body)] {
      if (!pin_this_thread(processor)) {
        throw std::runtime_error("cannot run on processor " + std::to_string(processor));
      }
      body();
      return 0;
    };
    if constexpr (Thread) {
      thread_ = std::thread([pinned] {
        try {
          pinned();
        } catch (const std::exception& error) {
          std::fprintf(stderr, "peer: %s\n", error.what());
          ::_exit(70);
        }
      });
    } else {
      child_ = Child::start("peer", pinned);
    }
  }
  // Waits for its end.
  void join() {
    if constexpr (Thread) {
      thread_.join();
    } else if (!child_.join()) {
      throw std::runtime_error("the peer failed");
    }
  }

 private:
  std::thread thread_;
  Child child_;
};

// What the two sides of a measurement say to each other beside the link.
struct Shared {
  alignas(128) uint64_t ready = 0;
  alignas(128) Histogram histogram;  // the server's figures
};

class SharedBlock {
 public:
  SharedBlock() : memory_(sizeof(Shared)), shared_(new(memory_.data()) Shared) {}
  Shared* operator->() const noexcept { return shared_; }
  void set_ready() const noexcept { ring::store_release(shared_->ready, uint64_t{1}); }
  void await_ready() const noexcept {
    while (ring::load_acquire(shared_->ready) == 0) {
      std::this_thread::yield();
    }
  }

 private:
  SharedMemory memory_;
  Shared* shared_;
};

inline void check_message(uint64_t expected, const uint64_t* words, std::size_t count) {
  if (words[0] != expected || words[count - 1] != expected) [[unlikely]] {
    broken_sequence(expected, words[0], words[count - 1]);
  }
}

// The server's side of every measurement: hands what comes to on_message(words, count), in order, until the
// client says that it was the last.
template <typename Server, typename OnMessage>
void serve(Server& server, const SharedBlock& shared, OnMessage&& on_message) {
  bool running = true;
  shared.set_ready();
  while (running) {
    server.receive([&](const uint64_t* words, std::size_t count) {
      if (words[0] == kStop) [[unlikely]] {
        running = false;
        return;
      }
      on_message(words, count);
    });
  }
}

// Time per message, as the server sees it: a sample is a block of `block` messages.
template <StreamLink L>
void measure_stream(Round& round, CorePair cores, uint32_t batch, uint32_t block) {
  L link;
  const SharedBlock shared;
  const Clock& clock = Clock::get();
  Peer<L::kThreads> peer(cores.second, [&] {
    typename L::Server server(link);
    uint64_t expected = 1;
    uint64_t block_start = 0;
    uint32_t left = block;
    serve(server, shared, [&](const uint64_t* words, std::size_t count) {
      check_message(expected++, words, count);
      if (--left == 0) [[unlikely]] {
        const uint64_t now = clock.end();
        if (block_start != 0) {  // the first block warms up
          shared->histogram.record_ps(clock.to_ps(now - block_start) / block);
        }
        block_start = now;
        left = block;
      }
    });
  });
  shared.await_ready();
  {
    const Pinned core(cores.first);
    typename L::Client client(link);
    uint64_t number = 1;
    const uint64_t end = clock.begin() + clock.to_ticks(round.budget_ns());
    do {
      for (uint32_t sent = 0; sent < block; sent += batch) {
        client.send(number, batch);
        number += batch;
      }
    } while (clock.begin() < end || number <= 3 * uint64_t{block});
    client.send(kStop, 1);
  }
  peer.join();
  round.latencies().merge(shared->histogram);
}

// Time from a send to its answer: a sample is the mean of `trips` successive ones. With trips = 1 every one
// is timed by itself, the clock's own cost included.
template <CallLink L>
void measure_round_trip(Round& round, CorePair cores, uint32_t trips) {
  L link;
  const SharedBlock shared;
  const Clock& clock = Clock::get();
  Peer<L::kThreads> peer(cores.second, [&] {
    typename L::Server server(link);
    uint64_t expected = 1;
    serve(server, shared, [&](const uint64_t* words, std::size_t count) {
      check_message(expected, words, count);
      server.answer(expected++);
    });
  });
  shared.await_ready();
  {
    const Pinned core(cores.first);
    typename L::Client client(link);
    uint64_t number = 0;
    const uint64_t warm = clock.begin() + clock.to_ticks(round.budget_ns() / 10);
    do {
      for (uint32_t i = 0; i < trips; ++i) {
        client.call(++number);
      }
    } while (clock.begin() < warm);
    const uint64_t end = clock.begin() + clock.to_ticks(round.budget_ns());
    uint64_t now = 0;
    do {
      const uint64_t start = clock.begin();
      for (uint32_t i = 0; i < trips; ++i) {
        client.call(++number);
      }
      now = clock.end();
      round.latencies().record_ps(clock.to_ps(now - start) / trips);
    } while (now < end);
    client.send(kStop, 1);
  }
  peer.join();
}

// What sending one message costs the sender while the server keeps up: a sample is the mean of `sends`
// successive ones; between samples the sender waits until the server has surely taken them.
template <StreamLink L>
void measure_submit(Round& round, CorePair cores, uint32_t sends, uint64_t pause_ns) {
  L link;
  const SharedBlock shared;
  const Clock& clock = Clock::get();
  Peer<L::kThreads> peer(cores.second, [&] {
    typename L::Server server(link);
    uint64_t expected = 1;
    serve(server, shared,
          [&](const uint64_t* words, std::size_t count) { check_message(expected++, words, count); });
  });
  shared.await_ready();
  {
    const Pinned core(cores.first);
    typename L::Client client(link);
    uint64_t number = 0;
    const uint64_t pause = clock.to_ticks(pause_ns);
    const uint64_t start_all = clock.begin();
    const uint64_t warm = start_all + clock.to_ticks(round.budget_ns() / 10);
    const uint64_t end = start_all + clock.to_ticks(round.budget_ns());
    uint64_t now = 0;
    do {
      const uint64_t start = clock.begin();
      for (uint32_t i = 0; i < sends; ++i) {
        client.send(++number, 1);
      }
      now = clock.end();
      if (start >= warm) {
        round.latencies().record_ps(clock.to_ps(now - start) / sends);
      }
      while (clock.begin() - now < pause) {
      }
    } while (now < end || round.latencies().empty());
    client.send(kStop, 1);
  }
  peer.join();
}

// ---- registration ----

// Where the two sides run, as it stands in the results.
struct Where {
  Placement placement;
  CorePair cores;
};

template <CallLink L>
void add_round_trip(Suite& suite, const Where& where) {
  const std::string placement(placement_name(where.placement));
  const CaseId id{"round_trip", L::kVariant, {{"bytes", int64_t{L::kBytes}}, {"placement", placement}}};
  suite.add(id, [cores = where.cores](Round& round) { measure_round_trip<L>(round, cores, 1); });
  CaseId mean = id;
  mean.name = "round_trip_mean";
  suite.add(mean, [cores = where.cores](Round& round) { measure_round_trip<L>(round, cores, 64); });
}

template <StreamLink L>
void add_stream(Suite& suite, const Where& where, uint32_t batch, uint32_t block = 4096) {
  const std::string placement(placement_name(where.placement));
  suite.add({"stream",
             L::kVariant,
             {{"bytes", int64_t{L::kBytes}}, {"batch", int64_t{batch}}, {"placement", placement}}},
            [=, cores = where.cores](Round& round) { measure_stream<L>(round, cores, batch, block); });
}

template <StreamLink L>
void add_submit(Suite& suite, const Where& where, uint64_t pause_ns_each = 250) {
  const std::string placement(placement_name(where.placement));
  const CaseId id{"submit", L::kVariant, {{"bytes", int64_t{L::kBytes}}, {"placement", placement}}};
  suite.add(id,
            [=, cores = where.cores](Round& round) { measure_submit<L>(round, cores, 1, pause_ns_each); });
  CaseId mean = id;
  mean.name = "submit_mean";
  suite.add(mean, [=, cores = where.cores](Round& round) {
    measure_submit<L>(round, cores, 32, 32 * pause_ns_each);
  });
}

// Each family of links registers its cases (its own file, so that one's inlining does not disturb another's).
void add_bare(Suite& suite, const Where& where);
void add_vgpu(Suite& suite, const Where& where);
void add_queues(Suite& suite, const Where& where);
void add_rte_ring(Suite& suite, const Where& where);
void add_kernel(Suite& suite, const Where& where);
void add_wake_up(Suite& suite, const Where& where);

}  // namespace vgpu::bench
