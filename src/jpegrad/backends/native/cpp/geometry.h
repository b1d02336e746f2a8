// How an image is divided: into strips of one row of MCUs (8 or 16 pixel rows), whose samples fit the second-level
// cache. The block rows of a strip lie side by side in its eight sample rows: groups of LANES blocks run across them.
#pragma once
#include "api.h"
#include "simd.h"
#include "t81.h"

namespace NAMESPACE {

// Whether libjpeg's decoder has a triangle filter for a component of this width.
INLINE bool triangle_applies(int h, int64_t width) { return h == 1 || (h == 2 && width > 2); }

// Where lane l of a group of LANES blocks comes from: transposing contiguous vectors in place costs no extra shuffle
// if the blocks may lie in any order.
INLINE int block_of_lane(int lane) { return lane % 8 * (LANES / 8) + lane / 8; }

struct Component {
    int64_t blocks_x, blocks_y, block_rows;  // block_rows: per strip
    int64_t width, height;                   // the decoder's samples
    int64_t stride, groups;                  // of a strip: samples per row, groups of LANES blocks
    int64_t first_group;

    // Which block of the component a lane of a group in strip s holds, or -1.
    INLINE_MEMBER int64_t block_index(int64_t s, int64_t group, int lane) const {
        int64_t in_strip = group * LANES + block_of_lane(lane), y = s * block_rows + in_strip / blocks_x;
        return in_strip >= block_rows * blocks_x || y >= blocks_y ? -1 : y * blocks_x + in_strip % blocks_x;
    }
};

struct Layout {
    Component component[3];
    int count, h, v;
    bool triangle;  // the filter that chroma is upsampled with
    int64_t height, width, strips, groups;

    explicit Layout(const Codec& c) : count(c.channels), h(c.h), v(c.v), height(c.height), width(c.width), groups(0) {
        strips = ceil_div(height, 8 * v);
        for (int i = 0; i < count; i++) {
            Component& k = component[i];
            int kh = i ? h : 1, kv = i ? v : 1;
            k.width = ceil_div(width, kh);
            k.height = ceil_div(height, kv);
            k.blocks_x = ceil_div(k.width, 8);
            k.blocks_y = ceil_div(k.height, 8);
            k.block_rows = i ? 1 : v;
            k.groups = ceil_div(k.block_rows * k.blocks_x, LANES);
            // The slack takes the last vector of a row, and keeps rows off each other's cache sets.
            k.stride = k.groups * 8 * LANES + LANES;
            k.first_group = groups;
            groups += k.groups;
        }
        triangle = count == 3 && c.triangle && triangle_applies(h, component[1].width);
    }
    // Where a row of a component's strip begins.
    INLINE_MEMBER int64_t row(int component_index, int64_t y) const {
        const Component& k = component[component_index];
        return y % 8 * k.stride + y / 8 * k.blocks_x * 8;
    }
    int64_t rows() const { return 8 * v; }
    // Where what is saved of a component's coefficients in strip s of an image begins; and how many it saves.
    int64_t saved(int64_t s, int c) const { return (s * groups + component[c].first_group) * 64 * LANES; }
    int64_t saved() const { return strips * groups * 64 * LANES; }
    bool chroma_needs_neighbours() const { return v == 2 && triangle; }
};

}  // namespace NAMESPACE
