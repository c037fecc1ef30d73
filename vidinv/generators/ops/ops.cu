// The operators of kernels.h on a GPU, behind a C interface that knows no torch: library.py calls it.
// Each function gives a CUDA error code, 0 for none.

// cpp_extension forbids the conversions that kernels.h makes.
#undef __CUDA_NO_HALF_CONVERSIONS__
#undef __CUDA_NO_BFLOAT16_CONVERSIONS__

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels.h"

using namespace vidinv;

namespace {

constexpr int WORKERS = 256;

struct BlockTeam {
  int rank, size;
  __device__ void wait() const { __syncthreads(); }
};

template <typename Real>
__global__ void upfirdn_kernel(const Upfirdn op, int count) {
  for (int64_t i = blockIdx.x * int64_t(WORKERS) + threadIdx.x; i < count;
       i += int64_t(WORKERS) * gridDim.x)
    upfirdn_at<Real>(op, static_cast<int>(i));
}

template <typename Real>
__global__ void scale_lrelu_kernel(const ScaleLrelu op, int count) {
  for (int64_t i = blockIdx.x * int64_t(WORKERS) + threadIdx.x; i < count;
       i += int64_t(WORKERS) * gridDim.x)
    scale_lrelu_at<Real>(op, static_cast<int>(i));
}

template <typename Real>
__global__ void filtered_lrelu_kernel(const FilteredLrelu op) {
  extern __shared__ double memory[];  // double: aligned for every type
  const BlockTeam team = {static_cast<int>(threadIdx.x), WORKERS};
  const int across = (op.y_size[1] + op.tile - 1) / op.tile;
  const int down = (op.y_size[0] + op.tile - 1) / op.tile;
  const int plane = blockIdx.x / (across * down), tile = blockIdx.x % (across * down);
  filtered_lrelu_tile<Real>(
      op, plane / op.channels, plane % op.channels, tile / across * op.tile,
      tile % across * op.tile, reinterpret_cast<typename Sum<Real>::Type*>(memory), team);
}

template <typename Real>
struct Runner {
  static void run(const Upfirdn& op, cudaStream_t stream) {
    const int count = op.batch * op.channels * op.y_size[0] * op.y_size[1];
    upfirdn_kernel<Real><<<blocks(count), WORKERS, 0, stream>>>(op, count);
  }
  static void run(const ScaleLrelu& op, cudaStream_t stream) {
    const int count = op.batch * op.channels * op.size[0] * op.size[1];
    scale_lrelu_kernel<Real><<<blocks(count), WORKERS, 0, stream>>>(op, count);
  }
  static void run(const FilteredLrelu& op, cudaStream_t stream) {
    const TileSides sides(op);
    const size_t bytes =
        (sides.first() + sides.second(op.tile)) * sizeof(typename Sum<Real>::Type);
    const int across = (op.y_size[1] + op.tile - 1) / op.tile;
    const int down = (op.y_size[0] + op.tile - 1) / op.tile;
    filtered_lrelu_kernel<Real>
        <<<op.batch * op.channels * across * down, WORKERS, bytes, stream>>>(op);
  }
  static int blocks(int count) { return (count - 1) / WORKERS + 1; }
};

template <typename Operator>
int launch(const Operator* op, void* stream) {
  const cudaStream_t queue = static_cast<cudaStream_t>(stream);
  switch (op->type) {
    case FLOAT: Runner<float>::run(*op, queue); break;
    case HALF: Runner<__half>::run(*op, queue); break;
    case BFLOAT: Runner<__nv_bfloat16>::run(*op, queue); break;
    case DOUBLE: Runner<double>::run(*op, queue); break;
    default: return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

}  // namespace

extern "C" {

int vidinv_upfirdn(const Upfirdn* op, void* stream) { return launch(op, stream); }
int vidinv_scale_lrelu(const ScaleLrelu* op, void* stream) { return launch(op, stream); }
int vidinv_filtered_lrelu(const FilteredLrelu* op, void* stream) { return launch(op, stream); }
const char* vidinv_error(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
// So that a mistake in the mirrored structures is found before it writes anywhere.
int vidinv_size_of(int which) {
  return which == 0 ? sizeof(Upfirdn) : which == 1 ? sizeof(ScaleLrelu) : sizeof(FilteredLrelu);
}

}  // extern "C"
