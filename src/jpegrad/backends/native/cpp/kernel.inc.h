// The kernel of one instruction set; the including file may say which in the words of target.h.
#include "backward.h"
#include "exact.h"
#include "kernel.h"
#include "soft.h"
#if LANES <= 16
#include "distance_gradient.h"
#include "similarity.h"
#include "structure.h"
#endif

namespace NAMESPACE {

// Calls fn(coder, image, first strip, last strip) for the parts of a range of strips that lie in one image each.
template <class Worker, class Fn>
static bool for_images(const Codec& codec, const Call& call, int64_t begin, int64_t end, const Fn& fn) {
    static thread_local Arena arena;
    Layout layout(codec);
    Worker worker(codec, call, layout);
    if (!worker.reserve(arena)) return false;
    while (begin < end) {
        int64_t image = begin / layout.strips, first = begin % layout.strips;
        int64_t count = end - begin < layout.strips - first ? end - begin : layout.strips - first;
        fn(worker, image, first, first + count);
        begin += count;
    }
    return true;
}

static int64_t units(const Codec& codec) { return Layout(codec).strips; }

static bool jpeg(const Codec& codec, const Call& call, int64_t begin, int64_t end) {
    return for_images<StripCoder>(
        codec, call, begin, end, [&](StripCoder& coder, int64_t image, int64_t first, int64_t last) {
            call.flags ? coder.jpeg<true>(image, first, last) : coder.jpeg<false>(image, first, last);
        });
}

static bool encode(const Codec& codec, const Call& call, int64_t begin, int64_t end) {
    return for_images<StripCoder>(
        codec, call, begin, end, [&](StripCoder& coder, int64_t image, int64_t first, int64_t last) {
            call.flags ? coder.encode<true>(image, first, last) : coder.encode<false>(image, first, last);
        });
}

template <class Worker, void (Worker::*METHOD)(int64_t, int64_t, int64_t)>
static bool run(const Codec& codec, const Call& call, int64_t begin, int64_t end) {
    return for_images<Worker>(codec, call, begin, end, [&](Worker& worker, int64_t image, int64_t first, int64_t last) {
        (worker.*METHOD)(image, first, last);
    });
}

#if LANES <= 16
template <class Metric, bool (Metric::*METHOD)(int64_t) const>
static bool each_picture(const Comparison& call, int64_t begin, int64_t end) {
    const Metric metric(call);
    for (int64_t picture = begin; picture < end; picture++)
        if (!(metric.*METHOD)(picture)) return false;
    return true;
}
#endif

constexpr Kernel KERNEL = {
    NAME,
    LANES,
    units,
    jpeg,
    run<SoftCoder, &SoftCoder::jpeg>,
    encode,
    run<StripCoder, &StripCoder::decode>,
    run<StripAdjoint, &StripAdjoint::jpeg>,
    run<StripAdjoint, &StripAdjoint::encode>,
    run<StripAdjoint, &StripAdjoint::decode>,
#if LANES <= 16
    each_picture<Structure, &Structure::prepare>,
    each_picture<Structure, &Structure::compare>,
    each_picture<Distance, &Distance::prepare>,
    each_picture<Distance, &Distance::compare>,
    each_picture<Similarity, &Similarity::compare>,
#endif
};
}  // namespace NAMESPACE
