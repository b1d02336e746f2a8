// Threads that live for one call: nothing survives a fork, and any number of callers may overlap.
#pragma once
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#include "api.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

// Work on [0, total) that any thread may take pieces of: large ones first, so that nobody waits long for the last.
template <class Fn> class Work {
    const int64_t total, threads, grain;
    const Fn& fn;
    std::atomic<int64_t> next{0};
    std::atomic<bool> ok{true};
    std::mutex mutex;
    std::condition_variable left;
    int inside = 0;
    bool closed = false;

    bool take(int64_t& begin, int64_t& end) {
        begin = next.load();
        do {
            if (begin >= total) return false;
            const int64_t share = (total - begin) * 2 / (3 * threads), pieces = (share + grain - 1) / grain;
            end = begin + (pieces > 1 ? pieces : 1) * grain;
            end = end < total ? end : total;
        } while (!next.compare_exchange_weak(begin, end));
        return true;
    }

  public:
    Work(int64_t total, int64_t threads, int64_t grain, const Fn& fn)
        : total(total), threads(threads), grain(grain), fn(fn) {}

    void run() {
        int64_t begin, end;
        while (take(begin, end))
            if (!fn(begin, end)) ok = false;
    }

    // A helper that comes too late finds the work done, and `fn` may be gone.
    void help() {
        {
            std::lock_guard<std::mutex> lock(mutex);
            if (closed) return;
            inside++;
        }
        run();
        std::lock_guard<std::mutex> lock(mutex);
        inside--;
        left.notify_one();
    }

    // Waits for the helpers that came, asleep; for no other.
    bool finish() {
        std::unique_lock<std::mutex> lock(mutex);
        closed = true;
        left.wait(lock, [&] { return inside == 0; });
        return ok;
    }
};

// fn(begin, end) over parts of [0, total), in any order, each a multiple of `grain` but for the last; it returns false
// if it failed. 0 means success.
template <class Fn> int parallel(int64_t total, int threads, int64_t grain, const Fn& fn) {
    const int64_t pieces = (total + grain - 1) / grain, count = threads < pieces ? threads : pieces;
    if (count <= 1) return fn((int64_t)0, total) ? 0 : 1;
    auto work = std::make_shared<Work<Fn>>(total, count, grain, fn);
    try {
        for (int64_t i = 1; i < count; i++) std::thread([work] { work->help(); }).detach();
    } catch (...) {
        // No thread to be had: this one does the rest.
    }
    work->run();
    return work->finish() ? 0 : 1;
}
