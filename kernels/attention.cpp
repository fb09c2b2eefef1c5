// `fast::scaled_dot_product_attention` on the CPU. MLX's own is a dozen operations, which copy queries, keys and values to make
// them contiguous, store all attention weights, and compute exponentials one at a time. This is one operation in each
// direction: it processes blocks of 64 queries, recomputes the weights in the backward pass (Dao et al. 2022, algorithm 4), and
// skips keys that the causal mask hides from the whole block.
#include "blas.h"
#include "mlx/fast.h"
#include "primitive.h"
#include "rows.h"

using namespace cpu_operations;

namespace {

constexpr int64_t block = 64; // queries per block

// A float32 array [B, H, T, D] with contiguous vectors and any other strides.
struct Heads {
  float *data;
  int64_t batch, heads, length, width, batch_step, head_step, step;

  float *at(int64_t b, int64_t h, int64_t t = 0) const { return data + b * batch_step + h * head_step + t * step; }
};

// Views an array as heads; copies it into `temporaries` if its vectors are not contiguous.
Heads heads_of(const array &a, std::vector<std::vector<float>> &temporaries) {
  const auto &shape = a.shape();
  const auto &strides = a.strides();
  Heads h = {const_cast<float *>(a.data<float>()), shape[0], shape[1], shape[2], shape[3], strides[0], strides[1], strides[2]};
  bool packed = (h.width == 1 || strides[3] == 1) && (h.length == 1 || h.step >= h.width);
  if (packed) {
    h.step = std::max(h.step, h.width); // MLX leaves the stride of a single row undefined
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

// Allocates [B, H, T, D] with the memory layout of the layers around attention: [B, T, H, D].
Heads allocate_heads(array &a) {
  const auto &s = a.shape();
  int64_t heads = s[1], length = s[2], width = s[3];
  Strides strides = {length * heads * width, width, heads * width, 1};
  bool rows = heads == 1 || length == 1, columns = a.size() <= 1;
  a.set_data(allocator::malloc(a.nbytes()), a.size(), strides, {true, rows, columns});
  return {a.data<float>(), s[0], heads, length, width, strides[0], strides[1], strides[2]};
}

// Number of keys visible to the query at `t`; the last query sees the last key.
int64_t visible_keys(bool causal, int64_t t, int64_t queries, int64_t keys) { return causal ? keys - queries + t + 1 : keys; }

// Softmax of a row of scores without the division: exponentials in place, their sum, and the log-sum-exp of the scores.
MULTIVERSION void softmax_row(float *scores, int64_t visible, int64_t n, float *sum, float *log_sum) {
  float largest = rows::max(scores, visible);
  for (int64_t j = 0; j < visible; j++) scores[j] = rows::exp(scores[j] - largest);
  std::fill(scores + visible, scores + n, 0.0f);
  *sum = rows::sum(scores, visible);
  *log_sum = largest + std::log(*sum);
}

MULTIVERSION void divide(float *x, int64_t n, float by) {
  for (int64_t i = 0; i < n; i++) x[i] /= by;
}

MULTIVERSION float dot(const float *a, const float *b, int64_t n) { return rows::dot(a, b, n); }

// Backward pass of softmax: scores become weights p, their gradients dp become those of the scores, `p (dp - mean) scale`.
MULTIVERSION void softmax_backward(float *scores, float *gradients, int64_t visible, int64_t n, float log_sum, float mean, float scale) {
  for (int64_t j = 0; j < visible; j++) {
    scores[j] = rows::exp(scores[j] - log_sum);
    gradients[j] = scores[j] * (gradients[j] - mean) * scale;
  }
  std::fill(scores + visible, scores + n, 0.0f);
  std::fill(gradients + visible, gradients + n, 0.0f);
}

// Options of a call.
struct Call {
  float scale;
  bool causal;
  bool operator==(const Call &) const = default;
};

void forward(const Call &call, const Heads &q, const Heads &k, const Heads &v, const Heads &y, float *log_sums) {
  std::vector<float> scores(std::min(block, q.length) * k.length);
  for (int64_t b = 0; b < q.batch; b++)
    for (int64_t h = 0; h < q.heads; h++) {
      int64_t kv_head = h / (q.heads / k.heads);
      for (int64_t t = 0; t < q.length; t += block) {
        int64_t m = std::min(block, q.length - t), n = visible_keys(call.causal, t + m - 1, q.length, k.length);
        float sums[block];
        product(no_trans, trans, m, n, q.width, call.scale, q.at(b, h, t), q.step, k.at(b, kv_head), k.step, 0, scores.data(), n);
        for (int64_t i = 0; i < m; i++)
          softmax_row(&scores[i * n], visible_keys(call.causal, t + i, q.length, k.length), n, &sums[i], &log_sums[(b * q.heads + h) * q.length + t + i]);
        product(no_trans, no_trans, m, v.width, n, 1, scores.data(), n, v.at(b, kv_head), v.step, 0, y.at(b, h, t), y.step);
        for (int64_t i = 0; i < m; i++) divide(y.at(b, h, t + i), v.width, sums[i]);
      }
    }
}

void backward(const Call &call, const Heads &q, const Heads &k, const Heads &v, const Heads &y, const float *log_sums, const Heads &dy,
              const Heads &dq, const Heads &dk, const Heads &dv) {
  std::vector<float> scores(std::min(block, q.length) * k.length), gradients(scores.size());
  for (int64_t b = 0; b < q.batch; b++)
    for (int64_t h = 0; h < q.heads; h++) {
      int64_t group = q.heads / k.heads, kv_head = h / group;
      bool first = h % group == 0; // of the group of heads that shares these keys and values
      if (first && q.length > block)
        for (int64_t t = 0; t < k.length; t++) {
          std::fill_n(dk.at(b, kv_head, t), k.width, 0.0f);
          std::fill_n(dv.at(b, kv_head, t), v.width, 0.0f);
        }
      float beta = first && q.length <= block ? 0 : 1; // a single block covers all keys and overwrites dk and dv; others accumulate
      for (int64_t t = 0; t < q.length; t += block) {
        int64_t m = std::min(block, q.length - t), n = visible_keys(call.causal, t + m - 1, q.length, k.length);
        product(no_trans, trans, m, n, q.width, call.scale, q.at(b, h, t), q.step, k.at(b, kv_head), k.step, 0, scores.data(), n);
        product(no_trans, trans, m, n, v.width, 1, dy.at(b, h, t), dy.step, v.at(b, kv_head), v.step, 0, gradients.data(), n);
        for (int64_t i = 0; i < m; i++) {
          float mean = dot(dy.at(b, h, t + i), y.at(b, h, t + i), v.width);
          softmax_backward(&scores[i * n], &gradients[i * n], visible_keys(call.causal, t + i, q.length, k.length), n,
                     log_sums[(b * q.heads + h) * q.length + t + i], mean, call.scale);
        }
        product(no_trans, no_trans, m, q.width, n, 1, gradients.data(), n, k.at(b, kv_head), k.step, 0, dq.at(b, h, t), dq.step);
        product(trans, no_trans, n, k.width, m, 1, gradients.data(), n, q.at(b, h, t), q.step, beta, dk.at(b, kv_head), dk.step);
        product(trans, no_trans, n, v.width, m, 1, scores.data(), n, dy.at(b, h, t), dy.step, beta, dv.at(b, kv_head), dv.step);
      }
    }
}

// Weak handles for a task; MLX keeps the arrays alive until it has run.
std::vector<array> weak(const std::vector<array> &arrays) {
  std::vector<array> handles;
  for (const array &a : arrays) handles.push_back(array::unsafe_weak_copy(a));
  return handles;
}

// Common to both directions.
class AttentionPrimitive : public CpuPrimitive {
 public:
  AttentionPrimitive(Stream stream, Call call) : CpuPrimitive(stream), call(call) {}
  bool is_equivalent(const Primitive &other) const override { return call == static_cast<const AttentionPrimitive &>(other).call; }

 protected:
  Call call;
};

// q, k, v, y, log-sum-exps, dy -> dq, dk, dv.
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

// q, k, v -> y and the log-sum-exp of each query's scores.
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
    return select_argnums(all, argnums);
  }
};

} // namespace

namespace mlx::core::fast {

static Override<decltype(scaled_dot_product_attention)> replaced("scaled_dot_product_attention", "fast::scaled_dot_product_attention", &scaled_dot_product_attention);

// Whether the shapes are [B, H, T, C], [B, K, S, C] and [B, K, S, V] with T <= S and K a divisor of H. All others are MLX's, to
// broadcast or to refuse.
static bool shapes_fit(const array &queries, const array &keys, const array &values) {
  if (queries.ndim() != 4 || keys.ndim() != 4 || values.ndim() != 4) return false;
  const auto &q = queries.shape(), &k = keys.shape(), &v = values.shape();
  return q[0] == k[0] && q[0] == v[0] && k[1] == v[1] && q[1] % k[1] == 0 && k[2] == v[2] && q[2] <= k[2] && q[3] == k[3];
}

array scaled_dot_product_attention(const array &queries, const array &keys, const array &values, const float scale,
                                   const std::string &mask_mode, std::optional<array> mask, const std::optional<array> &sinks,
                                   bool force_fused, StreamOrDevice s) {
  Stream stream = to_stream(s);
  bool supported = is_supported(stream, {&queries, &keys, &values}) && !mask && !sinks && (mask_mode.empty() || mask_mode == "causal") &&
              shapes_fit(queries, keys, values);
  if (!supported || !replaced.use()) return replaced.mlx()(queries, keys, values, scale, mask_mode, mask, sinks, force_fused, s);
  const auto &q = queries.shape();
  auto outputs = array::make_arrays({{q[0], q[1], q[2], values.shape(3)}, {q[0], q[1], q[2]}}, {float32, float32},
                                    std::make_shared<Attention>(stream, Call{scale, mask_mode == "causal"}), {queries, keys, values});
  return outputs[0];
}

} // namespace mlx::core::fast
