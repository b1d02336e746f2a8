// Geometry and memory of the work: an image is cut into strips of one row of MCUs (8 or 16 pixel rows), whose samples fit the
// second-level cache. The block rows of a strip lie side by side in its eight sample rows, so that groups of LANES blocks
// run across them.

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
    }
    // Where a row of a component's strip begins.
    INLINE_MEMBER int64_t row(int component_index, int64_t y) const {
        const Component& k = component[component_index];
        return y % 8 * k.stride + y / 8 * k.blocks_x * 8;
    }
    int64_t rows() const { return 8 * v; }
    bool chroma_needs_neighbours() const { return count == 3 && v == 2 && triangle_applies(h, component[1].width); }
};

// Bump allocator over one block of memory that a thread keeps.
struct Arena {
    char* memory = nullptr;
    size_t size = 0, used = 0;

    ~Arena() { free(memory); }
    bool reserve(size_t bytes) {
        used = 0;
        if (bytes <= size) return true;
        free(memory);
        memory = nullptr;
        size = 0;
        void* p = nullptr;
        if (posix_memalign(&p, 64, bytes)) return false;
        memory = (char*)p;
        size = bytes;
        __builtin_memset(memory, 0, size);
        return true;
    }
    template <class T> T* take(int64_t count) {
        T* p = (T*)(memory + used);
        used += ((size_t)count * sizeof(T) + 63) / 64 * 64;
        return p;
    }
    static int64_t cost(int64_t count, int64_t element) { return (count * element + 63) / 64 * 64; }
};
