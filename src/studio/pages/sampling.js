// What may be drawn of alternatives [[id, text, logprob]…], most likely first, as the library's sampler does it: temperature, then
// top-k, top-p, min-p. At temperature 1 shares are of the whole vocabulary; at others, of the tokens that were sent.
export function drawn(alternatives, { temperature, topK, topP, minP }) {
  const best = alternatives[0][2];
  if (temperature === 0) return alternatives.map((_, index) => (index === 0 ? 1 : 0));
  const weights = alternatives.map(([, , logprob]) => Math.exp((logprob - best) / temperature));
  const sent = alternatives.reduce((sum, [, , logprob]) => sum + Math.exp(logprob), 0);
  const tail = temperature === 1 ? Math.max(0, 1 - sent) / Math.exp(best) : 0;
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  let kept = weights.map((weight, index) => (topK && index >= topK ? 0 : weight));
  let rest = topK && topK <= weights.length ? 0 : tail;
  if (topP < 1) {
    const enough = topP * (sum(kept) + rest);
    let before = 0;
    kept = kept.map((weight) => { const keep = before < enough ? weight : 0; before += weight; return keep; });
    if (before >= enough) rest = 0;
  }
  if (minP > 0) { kept = kept.map((weight) => (weight >= minP ? weight : 0)); rest = 0; }
  const total = sum(kept) + rest;
  return kept.map((weight) => weight / total);
}
