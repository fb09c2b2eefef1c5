// MLX's `fast::scaled_dot_product_attention` on the CPU: on a GPU one kernel, there a dozen operations, which copy queries,
// keys and values to have them packed, hold all weights, and take exponentials one at a time. This is one operation in
// either direction, linked before MLX's own. It holds the weights of 64 queries at a time, computes them again for the
// backward pass (Dao et al. 2022, algorithm 4), and skips keys that a causal mask hides from all of those.
#include "blas.h"
#include "mlx/fast.h"
#include "primitive.h"
#include "rows.h"

using namespace cpu_operations;

namespace {

constexpr int64_t block = 64; // queries whose weights are held at a time

// A float32 array [B, H, T, D] whose vectors are packed, wherever they lie.
struct Heads {
  float *data;
  int64_t batch, heads, length, width, batch_step, head_step, step;

  float *at(int64_t b, int64_t h, int64_t t = 0) const { return data + b * batch_step + h * head_step + t * step; }
};

// Packs vectors that are not, into memory that `temporaries` keeps.
Heads heads_of(const array &a, std::vector<std::vector<float>> &temporaries) {
  const auto &shape = a.shape();
  const auto &strides = a.strides();
  Heads h = {const_cast<float *>(a.data<float>()), shape[0], shape[1], shape[2], shape[3], strides[0], strides[1], strides[2]};
  bool packed = (h.width == 1 || strides[3] == 1) && (h.length == 1 || h.step >= h.width);
  if (packed) {
    h.step = std::max(h.step, h.width); // of a single row MLX leaves the step open
    return h;
  }
  auto &copy = temporaries.emplace_back(a.size());
  Heads to = {copy.data(), h.batch, h.heads, h.length, h.width, h.heads * h.length * h.width, h.length * h.width, h.width};
  for (int64_t b = 0; b < h.batch; b++)
    for (int64_t i = 0; i < h.heads; i++)
      for (int64_t t = 0; t < h.length; t++)
        for (int64_t d = 0; d < h.width; d++) to.at(b, i, t)[d] = h.at(b, i, t)[d * strides[3]];
  return to;
}

// Allocates [B, H, T, D] as the layers around attention want it: [B, T, H, D] in memory.
Heads allocate_heads(array &a) {
  const auto &s = a.shape();
  int64_t heads = s[1], length = s[2], width = s[3];
  Strides strides = {length * heads * width, width, heads * width, 1};
  bool rows = heads == 1 || length == 1, columns = a.size() <= 1;
  a.set_data(allocator::malloc(a.nbytes()), a.size(), strides, {true, rows, columns});
  return {a.data<float>(), s[0], heads, length, width, strides[0], strides[1], strides[2]};
}

// Keys that the query at `t` sees, of `keys` for `queries`; the last query sees the last key.
int64_t seen(bool causal, int64_t t, int64_t queries, int64_t keys) { return causal ? keys - queries + t + 1 : keys; }

// Scores to weights, not yet divided by their sum; that sum, and its logarithm as the scores have it.
FOR_EACH_PROCESSOR void weigh(float *scores, int64_t seen, int64_t n, float *sum, float *log_sum) {
  float largest = rows::max(scores, seen);
  for (int64_t j = 0; j < seen; j++) scores[j] = rows::exp(scores[j] - largest);
  std::fill(scores + seen, scores + n, 0.0f);
  *sum = rows::sum(scores, seen);
  *log_sum = largest + std::log(*sum);
}

FOR_EACH_PROCESSOR void divide(float *x, int64_t n, float by) {
  for (int64_t i = 0; i < n; i++) x[i] /= by;
}

FOR_EACH_PROCESSOR float dot(const float *a, const float *b, int64_t n) { return rows::dot(a, b, n); }

// Scores to weights p; their gradients to those of the scores, `p (dp - mean) scale`.
FOR_EACH_PROCESSOR void weigh_back(float *scores, float *gradients, int64_t seen, int64_t n, float log_sum, float mean, float scale) {
  for (int64_t j = 0; j < seen; j++) {
    scores[j] = rows::exp(scores[j] - log_sum);
    gradients[j] = scores[j] * (gradients[j] - mean) * scale;
  }
  std::fill(scores + seen, scores + n, 0.0f);
  std::fill(gradients + seen, gradients + n, 0.0f);
}

// What one call asks for.
struct Call {
  float scale;
  bool causal;
  bool operator==(const Call &) const = default;
};

void forward(const Call &call, const Heads &q, const Heads &k, const Heads &v, const Heads &y, float *log_sums) {
  std::vector<float> scores(std::min(block, q.length) * k.length);
  for (int64_t b = 0; b < q.batch; b++)
    for (int64_t h = 0; h < q.heads; h++) {
      int64_t shared = h / (q.heads / k.heads);
      for (int64_t t = 0; t < q.length; t += block) {
        int64_t m = std::min(block, q.length - t), n = seen(call.causal, t + m - 1, q.length, k.length);
        float sums[block];
        product(as_is, turned, m, n, q.width, call.scale, q.at(b, h, t), q.step, k.at(b, shared), k.step, 0, scores.data(), n);
        for (int64_t i = 0; i < m; i++)
          weigh(&scores[i * n], seen(call.causal, t + i, q.length, k.length), n, &sums[i], &log_sums[(b * q.heads + h) * q.length + t + i]);
        product(as_is, as_is, m, v.width, n, 1, scores.data(), n, v.at(b, shared), v.step, 0, y.at(b, h, t), y.step);
        for (int64_t i = 0; i < m; i++) divide(y.at(b, h, t + i), v.width, sums[i]);
      }
    }
}

void backward(const Call &call, const Heads &q, const Heads &k, const Heads &v, const Heads &y, const float *log_sums, const Heads &dy,
              const Heads &dq, const Heads &dk, const Heads &dv) {
  std::vector<float> scores(std::min(block, q.length) * k.length), gradients(scores.size());
  for (int64_t b = 0; b < q.batch; b++)
    for (int64_t h = 0; h < q.heads; h++) {
      int64_t group = q.heads / k.heads, shared = h / group;
      bool first = h % group == 0; // of the heads that share these keys and values
      if (first && q.length > block)
        for (int64_t t = 0; t < k.length; t++) {
          std::fill_n(dk.at(b, shared, t), k.width, 0.0f);
          std::fill_n(dv.at(b, shared, t), v.width, 0.0f);
        }
      float old = first && q.length <= block ? 0 : 1; // one block of queries sees all keys, and writes all of their gradients
      for (int64_t t = 0; t < q.length; t += block) {
        int64_t m = std::min(block, q.length - t), n = seen(call.causal, t + m - 1, q.length, k.length);
        product(as_is, turned, m, n, q.width, call.scale, q.at(b, h, t), q.step, k.at(b, shared), k.step, 0, scores.data(), n);
        product(as_is, turned, m, n, v.width, 1, dy.at(b, h, t), dy.step, v.at(b, shared), v.step, 0, gradients.data(), n);
        for (int64_t i = 0; i < m; i++) {
          float mean = dot(dy.at(b, h, t + i), y.at(b, h, t + i), v.width);
          weigh_back(&scores[i * n], &gradients[i * n], seen(call.causal, t + i, q.length, k.length), n,
                     log_sums[(b * q.heads + h) * q.length + t + i], mean, call.scale);
        }
        product(as_is, as_is, m, q.width, n, 1, gradients.data(), n, k.at(b, shared), k.step, 0, dq.at(b, h, t), dq.step);
        product(turned, as_is, n, k.width, m, 1, gradients.data(), n, q.at(b, h, t), q.step, old, dk.at(b, shared), dk.step);
        product(turned, as_is, n, v.width, m, 1, scores.data(), n, dy.at(b, h, t), dy.step, old, dv.at(b, shared), dv.step);
      }
    }
}

// Handles for a task, which MLX keeps the arrays of alive until it has run.
std::vector<array> weak(const std::vector<array> &arrays) {
  std::vector<array> handles;
  for (const array &a : arrays) handles.push_back(array::unsafe_weak_copy(a));
  return handles;
}

// What both directions are.
class AttentionPrimitive : public CpuPrimitive {
 public:
  AttentionPrimitive(Stream stream, Call call) : CpuPrimitive(stream), call(call) {}
  bool is_equivalent(const Primitive &other) const override { return call == static_cast<const AttentionPrimitive &>(other).call; }

 protected:
  Call call;
};

// q, k, v, y, the logarithms of the sums, dy to dq, dk, dv.
class AttentionBackward : public AttentionPrimitive {
 public:
  using AttentionPrimitive::AttentionPrimitive;
  DEFINE_NAME(CpuAttentionBackward)

  void eval_cpu(const std::vector<array> &inputs, std::vector<array> &outputs) override {
    Heads dq = allocate_heads(outputs[0]), dk = allocate_heads(outputs[1]), dv = allocate_heads(outputs[2]);
    cpu::get_command_encoder(stream()).dispatch([=, call = call, in = weak(inputs)]() {
      std::vector<std::vector<float>> temporaries;
      auto heads = [&](int i) { return heads_of(in[i], temporaries); };
      backward(call, heads(0), heads(1), heads(2), heads(3), in[4].data<float>(), heads(5), dq, dk, dv);
    });
  }
};

// q, k, v to y and the logarithms of the sums of the exponentials of the scores.
class Attention : public AttentionPrimitive {
 public:
  using AttentionPrimitive::AttentionPrimitive;
  DEFINE_NAME(CpuAttention)

  void eval_cpu(const std::vector<array> &inputs, std::vector<array> &outputs) override {
    Heads y = allocate_heads(outputs[0]);
    float *log_sums = allocate(outputs[1]);
    cpu::get_command_encoder(stream()).dispatch([=, call = call, in = weak(inputs)]() {
      std::vector<std::vector<float>> temporaries;
      auto heads = [&](int i) { return heads_of(in[i], temporaries); };
      forward(call, heads(0), heads(1), heads(2), y, log_sums);
    });
  }

  std::vector<array> vjp(const std::vector<array> &primals, const std::vector<array> &cotangents, const std::vector<int> &argnums,
                         const std::vector<array> &outputs) override {
    auto all = array::make_arrays({primals[0].shape(), primals[1].shape(), primals[2].shape()}, {float32, float32, float32},
                                  std::make_shared<AttentionBackward>(stream(), call),
                                  {primals[0], primals[1], primals[2], outputs[0], outputs[1], cotangents[0]});
    return chosen(all, argnums);
  }
};

} // namespace

namespace mlx::core::fast {

static Override<decltype(scaled_dot_product_attention)> replaced("scaled_dot_product_attention", "fast::scaled_dot_product_attention", &scaled_dot_product_attention);

array scaled_dot_product_attention(const array &queries, const array &keys, const array &values, const float scale,
                                   const std::string &mask_mode, std::optional<array> mask, const std::optional<array> &sinks,
                                   bool force_fused, StreamOrDevice s) {
  Stream stream = to_stream(s);
  bool ours = is_ours(stream, {&queries, &keys, &values}) && !mask && !sinks && (mask_mode.empty() || mask_mode == "causal") &&
              queries.ndim() == 4 && queries.shape(2) <= keys.shape(2);
  if (!ours || !replaced.use()) return replaced.mlx()(queries, keys, values, scale, mask_mode, mask, sinks, force_fused, s);
  const auto &q = queries.shape();
  auto outputs = array::make_arrays({{q[0], q[1], q[2], values.shape(3)}, {q[0], q[1], q[2]}}, {float32, float32},
                                    std::make_shared<Attention>(stream, Call{scale, mask_mode == "causal"}), {queries, keys, values});
  return outputs[0];
}

} // namespace mlx::core::fast
