// The kernel of one instruction set. The including file sets LANES, X86, NAMESPACE and the compiler's target.

namespace NAMESPACE {
#include "lanes.h"
#include "dct.h"
#include "color.h"
#include "chroma.h"
#include "strips.h"
#include "codec.h"

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

static int64_t saved_size(const Codec& codec) { return Layout(codec).saved_size(); }
static int64_t units(const Codec& codec) { return Layout(codec).strips; }

static bool jpeg(const Codec& codec, const Call& call, int64_t begin, int64_t end) {
    return for_images<StripCoder>(codec, call, begin, end, [&](StripCoder& coder, int64_t image, int64_t first, int64_t last) {
        if (call.coefficients)
            coder.jpeg<true>(image, first, last);
        else
            coder.jpeg<false>(image, first, last);
    });
}

static bool encode(const Codec& codec, const Call& call, int64_t begin, int64_t end) {
    return for_images<StripCoder>(codec, call, begin, end, [&](StripCoder& coder, int64_t image, int64_t first, int64_t last) {
        if (call.flags)
            coder.encode<true>(image, first, last);
        else
            coder.encode<false>(image, first, last);
    });
}

static bool decode(const Codec& codec, const Call& call, int64_t begin, int64_t end) {
    return for_images<StripCoder>(codec, call, begin, end, [&](StripCoder& coder, int64_t image, int64_t first, int64_t last) {
        coder.decode(image, first, last);
    });
}
}  // namespace NAMESPACE
