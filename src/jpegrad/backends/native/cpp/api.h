// The plain C interface between Python (ctypes) and the kernel. Structures mirror those of native/abi.py.
#pragma once
#include <cstdint>

// How the arithmetic looks to one image: the same for a whole call.
struct Codec {
    int64_t height, width;
    int32_t channels;                  // 1 or 3
    int32_t h, v;                      // chroma subsampling: luma samples per chroma sample
    int32_t triangle;                  // whether upsampling has a triangle filter where libjpeg has one
    int32_t table_count;               // tables per image: 1, 2 or 3
    int32_t jfif;                      // whether the decoder's matrix is JFIF's
    int32_t forward_matrix[9];         // RGB -> YCbCr, 16-bit fixed point
    int32_t forward_bias[3];           // rounding included
    int32_t inverse_matrix[9];         // YCbCr -> RGB, 16-bit fixed point
    int64_t inverse_bias[3];           // -matrix * offset, rounding included
    float forward_real[9], inverse_real[9];  // what the backward pass transposes, value range included
    float forward_offset[3], inverse_offset[3];  // of the real-valued conversions, in grey levels
    double low, high;                  // value range of floating-point images
    float clip_slope;
    int32_t slope;                     // a Slope
    float slope_parameter[3];          // per component: noise deviation in grey levels, or the record's own number
    int32_t table_slope;               // the same for the tables
    float table_parameter[3];
    float noise;                       // of the pixels, in grey levels, that smooths the soft forward's clamps; or 0
};

enum Slope : int32_t { IDENTITY, CUBIC, SIN, FOURIER, SOFT_ROUND, GAUSSIAN, DISTORTION, DEAD_ZONE };

enum Type : int32_t { UINT8, FLOAT32, FLOAT64, INT16, FLOAT16, BFLOAT16 };

// Strides count elements; the batch is one dimension. Outputs are contiguous.
struct Image {
    void* data;
    int64_t batch, channel, row, column;
    int32_t type;
};

// A batch of images on its way through the codec. Pointers that a call does not need are null.
struct Call {
    int64_t batch;
    Image input;                       // image, or the gradient of the decoded image
    Image output;                      // decoded image, or the gradient of the image
    const double* tables;              // [batch or 1, table_count, 64]
    int64_t table_stride;              // 0 if all images share them
    int64_t kept_stride;               // bytes between what is saved of two images; 0: none lie between
    int16_t* coefficients;             // saved for the backward pass, kernel layout
    float* slopes;                     // saved by the soft forward, same layout: of its rounding
    float* factors;                    // the same: derivative of a dequantized coefficient to its table entry
    float* clips[4];                   // slopes of its smoothed clamps: as in Clips, or none
    uint8_t* flags;                    // [batch, height, width], bits as in Flag
    uint8_t* chroma_flags;             // [batch, 2, chroma height, chroma width]
    float* planes[3];                  // blocks [batch, blocks_y, blocks_x, 64]: levels or gradients
    float* unrounded[3];               // the same shape: coefficients in steps, before rounding
    double* table_gradient;            // [batch, strips, channels, 64]: sums over one strip each
    const int32_t* book;               // Huffman codes [batch or 1, tables, 256, 2]: code and length
    int64_t book_stride;               // 1, or 0 if all images share them
    int64_t* counts;                   // results of counting
    int64_t* far;                      // samples far outside the value range are added to it
    int32_t threads;
};

// The choice of levels between error and bits. Prices are bits times what a bit costs, per image for luma and chroma.
struct Trellis {
    int64_t batch;
    const void* unrounded[3];          // [batch, blocks_y, blocks_x, 64], contiguous
    void* levels[3];                   // the same shape
    int32_t type;                      // of both and of the weights: FLOAT32 or FLOAT64
    const double* tables;              // [batch or 1, table_count, 64]
    int64_t table_stride;              // 0 if all images share them
    const void* weights[3];            // of squared errors; null if all are 1
    int64_t weight_strides[3][5];      // image, block row, block, row, column
    const double* ac_prices;           // [batch, 1 or 2, 12, 64]: by size and run
    const double* dc_prices;           // [batch, 1 or 2, 12]: by size
    int32_t threads;
};

// The cost of one level more at every place of a batch of blocks, [blocks, 64] each.
struct StepCosts {
    int64_t blocks, tables;            // as many blocks in succession for each table
    const float* levels;
    const float* lower;                // the magnitude before the step
    const uint8_t* where;              // which places are wanted
    const float* bits;                 // [tables, 64, 12]: of the symbols, by run and size
    float* out;
    int32_t threads;
};

// One component of a scan to decode.
struct ScanComponent {
    int16_t* levels;                   // [rows, columns, 64], natural order; 0 before the first scan
    int64_t rows, columns;             // its blocks; what an MCU has beyond them is decoded and dropped
    int32_t h, v;                      // blocks of an MCU: 1, 1 in a scan of one component
    int32_t dc, ac;                    // which tables: 0 to 3, of arithmetic coding 0 to 15
};

// The entropy-coded data of one scan. Python has checked the headers; the data may hold anything.
struct Scan {
    const uint8_t* data;               // the file
    int64_t size;
    int64_t position;                  // where the data begins; afterwards that of the marker behind it, or size
    int64_t mcu_rows, mcu_columns;
    int64_t restart_interval;          // in MCUs; 0 if there is none
    int64_t intervals;                 // afterwards: how many were found
    int64_t damages;                   // afterwards: a bit 1 << Damage for each kind that was met
    int64_t reached;                   // afterwards: the last row of MCUs for which there were data
    int32_t lenient;                   // go on after damage, as libjpeg does, or return the first
    int32_t count;                     // components
    int32_t process;                   // a Process
    int32_t first, last, high, low;    // coefficients and bits that the scan sends
    ScanComponent components[4];
    const uint8_t* tables;  // Huffman [8, 272]: counts of lengths and symbols of DC tables 0 to 3, AC tables 0 to 3;
                            // arithmetic [3, 16]: lower and upper bounds of DC, Kx of AC (T.81 F.1.4.4)
};

enum Process : int32_t { SEQUENTIAL, PROGRESSIVE };

// One component of a scan to code.
struct CodedComponent {
    const void* levels;  // [rows, columns, 64], natural order
    int64_t rows, columns;  // its blocks; what an MCU has beyond them is made up
    int32_t h, v;  // blocks of an MCU: 1, 1 in a scan of one component
    int32_t dc, ac;  // which tables: 0 to 3
    int32_t type;  // FLOAT32, FLOAT64 or INT16
};

// The coding of one scan. Python has checked all but the levels.
struct CodedScan {
    int64_t mcu_rows, mcu_columns;
    int32_t count;  // components
    int32_t process;  // a Process
    int32_t first, last, high, low;  // coefficients and bits that the scan sends
    int32_t optimize;  // whether to make the tables, or to take them
    int32_t clamp;  // whether levels that no file holds are clamped, or a fault
    CodedComponent components[4];
    uint8_t* tables;  // Huffman [8, 272], as in Scan
    uint8_t* data;  // malloc's; null before, and to be released
    int64_t size, capacity;  // of the data; 0 before
};

// Pictures and their originals, for a metric. Pointers that a call does not need are null.
// How a block's band ends: it has no levels, zeros after the last, or none.
enum Ending : uint8_t { EMPTY, ENDS, COMPLETE };

struct BandCall {
    int64_t blocks;
    const float* levels;  // [blocks, 64], natural order
    int32_t first, last;  // of the band, in zigzag order
    int64_t* counts;  // [256], of the symbols of levels and of runs of sixteen zeros: to be added to
    uint8_t* ends;  // [blocks]
    const double* prices;  // [64, 12] by run and size; of size 0 by the zeros up to the block's end
    double* bits;  // [blocks]
    int32_t threads;
};

struct Comparison {
    int64_t batch, height, width;
    const void* image;  // [batch, 3, height, width], sRGB: float in 0 to 1, or bytes
    const void* original;  // likewise, each in its own form
    int32_t bytes, original_bytes;  // whether they are bytes
    float* prepared;  // planes of the originals, their rows padded to eight samples; null if there is no room for them
    const double* weights;  // of SSIMULACRA2: [3, scales, 2, 3]
    float taps[5];  // of its filter: the middle and four neighbours
    float* values;  // [batch]: the losses; null if none are wanted
    float* map;  // [batch, height, width]: Butteraugli's; its gradient at the end, if that of the image is wanted
    const float* gradient;  // of the map: then that of the image is wanted, and no map
    const float* scale;  // [batch]: of the gradient
    float* out_gradient;  // as the image, float; the gradient is added to it; null if none is wanted
    int32_t threads;
};

enum Fault : int32_t { FITS, BAD_LEVEL, NO_MEMORY };

// What is wrong with a scan: jfif/scan.py has the words.
enum Damage : int32_t {
    NONE,
    ENDS_EARLY,
    NO_CODE,
    BAD_RUN,
    BAD_DC,
    BAD_AC,
    BAD_SYMBOL,
    RESTART_ORDER,
    RESTARTS_MISSING
};

// UNDEFINED beside an IN bit is an infinite number, alone a NaN in any channel of the pixel.
enum Flag : uint8_t { OUT_R = 1, OUT_G = 2, OUT_B = 4, IN_R = 8, IN_G = 16, IN_B = 32, SAMPLE = 64, UNDEFINED = 128 };
