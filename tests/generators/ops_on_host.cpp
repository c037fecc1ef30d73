// The operators of kernels.h in loops on the host, behind the interface of ops.cu: what the tests
// compare with the reference where there is no GPU. Tiles are made by a team of threads.

#include <barrier>
#include <thread>
#include <vector>

#include "kernels.h"

using namespace vidinv;

namespace {

constexpr int WORKERS = 3;

struct ThreadTeam {
  int rank, size;
  std::barrier<>* barrier;
  void wait() const { barrier->arrive_and_wait(); }
};

template <typename Real>
struct Runner {
  static void run(const Upfirdn& op) {
    const int count = op.batch * op.channels * op.y_size[0] * op.y_size[1];
    for (int i = 0; i < count; ++i) upfirdn_at<Real>(op, i);
  }
  static void run(const ScaleLrelu& op) {
    const int count = op.batch * op.channels * op.size[0] * op.size[1];
    for (int i = 0; i < count; ++i) scale_lrelu_at<Real>(op, i);
  }
  static void run(const FilteredLrelu& op) {
    const TileSides sides(op);
    std::vector<typename Sum<Real>::Type> memory(sides.first() + sides.second(op.tile));
    std::barrier<> barrier(WORKERS);
    auto work = [&](int rank) {
      const ThreadTeam team = {rank, WORKERS, &barrier};
      for (int n = 0; n < op.batch; ++n)
        for (int c = 0; c < op.channels; ++c)
          for (int top = 0; top < op.y_size[0]; top += op.tile)
            for (int left = 0; left < op.y_size[1]; left += op.tile) {
              filtered_lrelu_tile<Real>(op, n, c, top, left, memory.data(), team);
              team.wait();  // the next tile uses the same memory
            }
    };
    std::vector<std::thread> threads;
    for (int rank = 0; rank < WORKERS; ++rank) threads.emplace_back(work, rank);
    for (std::thread& thread : threads) thread.join();
  }
};

template <typename Operator>
int launch(const Operator* op) {
  switch (op->type) {
    case FLOAT: Runner<float>::run(*op); return 0;
    case DOUBLE: Runner<double>::run(*op); return 0;
    default: return 1;
  }
}

}  // namespace

extern "C" {

int vidinv_upfirdn(const Upfirdn* op, void*) { return launch(op); }
int vidinv_scale_lrelu(const ScaleLrelu* op, void*) { return launch(op); }
int vidinv_filtered_lrelu(const FilteredLrelu* op, void*) { return launch(op); }
const char* vidinv_error(int) { return "this type is not for the host"; }
int vidinv_size_of(int which) {
  return which == 0 ? sizeof(Upfirdn) : which == 1 ? sizeof(ScaleLrelu) : sizeof(FilteredLrelu);
}

}  // extern "C"
