// What one worker computes of each operator, for CUDA (ops.cu) and for the host (tests, which have
// no GPU). The maths: a FIR resampler is zero insertion, padding, correlation and decimation in one
// sum; StyleGAN3's nonlinearity (Karras et al. 2021, section 3.2, figure 4b) is such a resampler to a
// higher rate, a leaky ReLU there, and one back, of which a tile never leaves the fast memory.
//
// Sizes and strides count elements, in the order of [N, C, H, W]. Mirrored by library.py.
#pragma once

#include <stdint.h>

#ifdef __CUDACC__
#define VIDINV_FN __host__ __device__ inline
#else
#define VIDINV_FN inline
#endif

namespace vidinv {

enum Type : int32_t { FLOAT = 0, HALF = 1, BFLOAT = 2, DOUBLE = 3 };

// y = gain * resample(x); taps are [taps_h, taps_w]. What lies outside x is zero.
struct Upfirdn {
  const void* x;
  const float* taps;
  void* y;
  int64_t x_strides[4], y_strides[4];
  int32_t batch, channels, x_size[2], y_size[2];
  int32_t num_taps[2], up[2], down[2], before[2];
  int32_t channels_last;  // the order in which workers walk through y
  int32_t type;
  float gain;
};

// y = gain * leaky_relu(scale * x + offset); scale (or null) and offset are broadcast by strides.
struct ScaleLrelu {
  const void *x, *scale, *offset;
  void* y;
  int64_t x_strides[4], scale_strides[4], offset_strides[4], y_strides[4];
  int32_t batch, channels, size[2];
  int32_t channels_last;
  int32_t type;
  float slope, gain;
};

// y = down(clamp(gain * leaky_relu(up(x)))); up_taps [num], down_taps [num] or [num, num].
struct FilteredLrelu {
  const void* x;
  const float *up_taps, *down_taps;
  void* y;
  int64_t x_strides[4], y_strides[4];
  int32_t batch, channels, x_size[2], y_size[2];
  int32_t num_up_taps, num_down_taps, down_is_separable;
  int32_t up, down, before;
  int32_t tile;  // side of the square of y that workers make together
  int32_t type;
  float slope, gain, clamp;
};

struct Place {
  int n, c, row, column;
};

template <typename Real>
struct Sum {
  using Type = float;
};
template <>
struct Sum<double> {
  using Type = double;
};

VIDINV_FN int ceil_div(int a, int b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }

VIDINV_FN int64_t at(const int64_t* strides, const Place& p) {
  return p.n * strides[0] + p.c * strides[1] + p.row * strides[2] + p.column * strides[3];
}

// The place of the index-th output, neighbours in memory being neighbours in index.
VIDINV_FN Place place_of(int index, int channels, int height, int width, bool channels_last) {
  Place p;
  if (channels_last) {
    p.c = index % channels, index /= channels;
    p.column = index % width, index /= width;
    p.row = index % height, p.n = index / height;
  } else {
    p.column = index % width, index /= width;
    p.row = index % height, index /= height;
    p.c = index % channels, p.n = index / channels;
  }
  return p;
}

template <typename Real>
VIDINV_FN void upfirdn_at(const Upfirdn& op, int index) {
  using Acc = typename Sum<Real>::Type;
  const Place out =
      place_of(index, op.channels, op.y_size[0], op.y_size[1], op.channels_last != 0);
  // Position 0 of the zero-inserted signal is x's first sample, which stands at multiples of up.
  const int top = out.row * op.down[0] - op.before[0];
  const int left = out.column * op.down[1] - op.before[1];
  const int first_row = ceil_div(top, op.up[0]), first_column = ceil_div(left, op.up[1]);
  const Real* x = static_cast<const Real*>(op.x);
  Acc sum = 0;
  for (int row = first_row < 0 ? 0 : first_row; row < op.x_size[0]; ++row) {
    const int tap_row = row * op.up[0] - top;
    if (tap_row >= op.num_taps[0]) break;
    const float* taps = op.taps + tap_row * op.num_taps[1];
    for (int column = first_column < 0 ? 0 : first_column; column < op.x_size[1]; ++column) {
      const int tap = column * op.up[1] - left;
      if (tap >= op.num_taps[1]) break;
      const Place place = {out.n, out.c, row, column};
      sum += static_cast<Acc>(taps[tap]) * static_cast<Acc>(x[at(op.x_strides, place)]);
    }
  }
  static_cast<Real*>(op.y)[at(op.y_strides, out)] =
      static_cast<Real>(sum * static_cast<Acc>(op.gain));
}

template <typename Acc>
VIDINV_FN Acc leaky_relu(Acc value, float slope, float gain) {
  return value * static_cast<Acc>(gain) * (value < 0 ? static_cast<Acc>(slope) : static_cast<Acc>(1));
}

template <typename Real>
VIDINV_FN void scale_lrelu_at(const ScaleLrelu& op, int index) {
  using Acc = typename Sum<Real>::Type;
  const Place place = place_of(index, op.channels, op.size[0], op.size[1], op.channels_last != 0);
  Acc value = static_cast<Acc>(static_cast<const Real*>(op.x)[at(op.x_strides, place)]);
  if (op.scale)
    value *= static_cast<Acc>(static_cast<const Real*>(op.scale)[at(op.scale_strides, place)]);
  value += static_cast<Acc>(static_cast<const Real*>(op.offset)[at(op.offset_strides, place)]);
  static_cast<Real*>(op.y)[at(op.y_strides, place)] =
      static_cast<Real>(leaky_relu(value, op.slope, op.gain));
}

// Sides of what a tile needs: of the signal at the higher rate, and of x.
struct TileSides {
  int upper, lower;
  VIDINV_FN explicit TileSides(const FilteredLrelu& op)
      : upper((op.tile - 1) * op.down + op.num_down_taps),
        lower((upper + op.num_up_taps - 1 + op.up - 1) / op.up) {}
  // Two buffers take turns: x and the signal at the higher rate; what is between two passes.
  VIDINV_FN int first() const {
    return upper > lower ? upper * upper : lower * lower;
  }
  VIDINV_FN int second(int tile) const { return upper * (lower > tile ? lower : tile); }
};

// A tile of y, by a team of workers that wait for each other between the passes.
//
// Team: `rank` and `size` of the worker's team, `wait()` until all have come here.
template <typename Real, typename Team>
VIDINV_FN void filtered_lrelu_tile(
    const FilteredLrelu& op, int n, int c, int top, int left,
    typename Sum<Real>::Type* memory, const Team& team) {
  using Acc = typename Sum<Real>::Type;
  const TileSides sides(op);
  const int upper = sides.upper, lower = sides.lower, tile = op.tile;
  Acc* first = memory;
  Acc* second = memory + sides.first();
  // Where the tile begins: at the higher rate, x's first sample being 0, and in x.
  const int upper_top = top * op.down - op.before, upper_left = left * op.down - op.before;
  const int x_top = ceil_div(upper_top, op.up), x_left = ceil_div(upper_left, op.up);

  const Real* x = static_cast<const Real*>(op.x);
  for (int i = team.rank; i < lower * lower; i += team.size) {
    const Place place = {n, c, x_top + i / lower, x_left + i % lower};
    const bool inside = place.row >= 0 && place.row < op.x_size[0] && place.column >= 0 &&
                        place.column < op.x_size[1];
    first[i] = inside ? static_cast<Acc>(x[at(op.x_strides, place)]) : Acc(0);
  }
  team.wait();
  for (int i = team.rank; i < lower * upper; i += team.size) {
    const int row = i / upper, position = upper_left + i % upper;
    int column = ceil_div(position, op.up);
    Acc sum = 0;
    for (int tap = column * op.up - position; tap < op.num_up_taps; tap += op.up, ++column)
      sum += static_cast<Acc>(op.up_taps[tap]) * first[row * lower + column - x_left];
    second[i] = sum * op.up;
  }
  team.wait();
  for (int i = team.rank; i < upper * upper; i += team.size) {
    const int column = i % upper, position = upper_top + i / upper;
    int row = ceil_div(position, op.up);
    Acc sum = 0;
    for (int tap = row * op.up - position; tap < op.num_up_taps; tap += op.up, ++row)
      sum += static_cast<Acc>(op.up_taps[tap]) * second[(row - x_top) * upper + column];
    const Acc value = leaky_relu(sum * op.up, op.slope, op.gain);
    const Acc most = static_cast<Acc>(op.clamp);
    first[i] = value > most ? most : value < -most ? -most : value;
  }
  team.wait();
  if (op.down_is_separable) {
    for (int i = team.rank; i < upper * tile; i += team.size) {
      const Acc* samples = first + i / tile * upper + i % tile * op.down;
      Acc sum = 0;
      for (int tap = 0; tap < op.num_down_taps; ++tap)
        sum += static_cast<Acc>(op.down_taps[tap]) * samples[tap];
      second[i] = sum;
    }
    team.wait();
  }
  for (int i = team.rank; i < tile * tile; i += team.size) {
    const int row = i / tile, column = i % tile;
    const Place place = {n, c, top + row, left + column};
    if (place.row >= op.y_size[0] || place.column >= op.y_size[1]) continue;
    Acc sum = 0;
    for (int tap_row = 0; tap_row < op.num_down_taps; ++tap_row) {
      if (op.down_is_separable) {
        sum += static_cast<Acc>(op.down_taps[tap_row]) *
               second[(row * op.down + tap_row) * tile + column];
        continue;
      }
      const Acc* samples = first + (row * op.down + tap_row) * upper + column * op.down;
      const float* taps = op.down_taps + tap_row * op.num_down_taps;
      for (int tap = 0; tap < op.num_down_taps; ++tap)
        sum += static_cast<Acc>(taps[tap]) * samples[tap];
    }
    static_cast<Real*>(op.y)[at(op.y_strides, place)] = static_cast<Real>(sum);
  }
}

}  // namespace vidinv
