//! Day 10: other programs' weights, and adapters.

use anyhow::Result;
use mlx_gpt::course::day03::Weights;
use mlx_gpt::course::day10;
use mlx_rs::Array;

use super::day07::small;
use super::exercise::{Draw, Exercise, Mistake};
use super::input::{Input, fields};
use super::value::{Value, value};

/// The learner's functions of day 10.
#[derive(Clone, Copy)]
pub struct Day10 {
    pub from_hugging_face: fn(Weights) -> mlx_rs::error::Result<Weights>,
    pub from_linear: fn(Weights) -> mlx_rs::error::Result<Weights>,
    pub lora: fn(&Array, &Array, &Array, &Array, f32) -> mlx_rs::error::Result<Array>,
    pub merge_lora: fn(&Array, &Array, &Array, f32) -> mlx_rs::error::Result<Array>,
}

/// Products of some ten numbers around 1 in float32.
const TOLERANCE: f64 = 1e-5;

/// A linear layer with its adapter.
struct Adapted {
    x: Array,
    weight: Array,
    a: Array,
    b: Array,
}

impl Input for Adapted {
    fn describe(&self) -> String {
        fields([("x", &self.x), ("weight", &self.weight), ("a", &self.a), ("b", &self.b)])
    }
}

impl Adapted {
    fn draw(draw: &mut Draw) -> Result<Self> {
        let size = draw.size(4, 6); // square, so that transposed matrices fit
        let rank = 2;
        Ok(Self {
            x: draw.normal(&[2, 3, size])?,
            weight: draw.normal(&[size, size])?,
            a: draw.normal(&[rank, size])?,
            b: draw.normal(&[size, rank])?,
        })
    }
}

impl Day10 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<Weights>(
                "from_hugging_face",
                stored,
                |tensors| named(&day10::from_hugging_face(tensors.clone())?),
                move |tensors| named(&(self.from_hugging_face)(tensors.clone())?),
                0.0,
                vec![
                    Mistake {
                        hint: "the names still begin with `transformer.`",
                        made: |tensors| named(&without_masks(tensors)),
                    },
                    Mistake {
                        hint: "the masks `attn.bias` are kept: they are no weights",
                        made: |tensors| {
                            let mut weights = day10::from_hugging_face(tensors.clone())?;
                            for (name, array) in tensors.iter().filter(|(name, _)| name.ends_with(".attn.bias")) {
                                let name = name.strip_prefix("transformer.").unwrap_or(name);
                                weights.insert(name.to_owned(), array.clone());
                            }
                            named(&weights)
                        },
                    },
                    Mistake {
                        hint: "`lm_head.weight` is kept: it is `wte.weight`, which the head is tied to",
                        made: |tensors| {
                            let mut weights = day10::from_hugging_face(tensors.clone())?;
                            weights.insert("lm_head.weight".into(), weights["wte.weight"].clone());
                            named(&weights)
                        },
                    },
                    Mistake {
                        hint: "the linear weights are transposed: Hugging Face's GPT-2 keeps them as `[in, out]`",
                        made: |tensors| named(&day10::from_linear(tensors.clone())?),
                    },
                ],
            ),
            Exercise::new::<Weights>(
                "from_linear",
                stored,
                |tensors| named(&day10::from_linear(tensors.clone())?),
                move |tensors| named(&(self.from_linear)(tensors.clone())?),
                0.0,
                vec![
                    Mistake {
                        hint: "the linear weights are not transposed: PyTorch's layers keep them as `[out, in]`",
                        made: |tensors| named(&day10::from_hugging_face(tensors.clone())?),
                    },
                    Mistake {
                        hint: "the embeddings are transposed as well: only linear layers are",
                        made: |tensors| {
                            let mut weights = day10::from_linear(tensors.clone())?;
                            for name in ["wte.weight", "wpe.weight"] {
                                let transposed = weights[name].transpose()?;
                                weights.insert(name.into(), transposed);
                            }
                            named(&weights)
                        },
                    },
                ],
            ),
            Exercise::new::<Adapted>(
                "lora",
                Adapted::draw,
                |l| value(day10::lora(&l.x, &l.weight, &l.a, &l.b, 0.5)),
                move |l| value((self.lora)(&l.x, &l.weight, &l.a, &l.b, 0.5)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the scale is missing",
                        made: |l| value(day10::lora(&l.x, &l.weight, &l.a, &l.b, 1.0)),
                    },
                    Mistake {
                        hint: "the layer itself is missing: the adapter is added to x W",
                        made: |l| {
                            let zero = l.weight.multiply(Array::from_f32(0.0))?;
                            value(day10::lora(&l.x, &zero, &l.a, &l.b, 0.5))
                        },
                    },
                    Mistake {
                        hint: "the scale is on the layer as well: only the adapter is scaled",
                        made: |l| {
                            let whole = day10::lora(&l.x, &l.weight, &l.a, &l.b, 1.0)?;
                            value(whole.multiply(Array::from_f32(0.5)))
                        },
                    },
                ],
            ),
            Exercise::new::<Adapted>(
                "merge_lora",
                Adapted::draw,
                |l| value(day10::merge_lora(&l.weight, &l.a, &l.b, 0.5)),
                move |l| value((self.merge_lora)(&l.weight, &l.a, &l.b, 0.5)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the product is transposed: the weight is `[in, out]`, so it is Aᵀ Bᵀ, not B A",
                        made: |l| {
                            let product = l.b.matmul(&l.a)?.multiply(Array::from_f32(0.5))?;
                            value(l.weight.add(product))
                        },
                    },
                    Mistake {
                        hint: "the scale is missing",
                        made: |l| value(day10::merge_lora(&l.weight, &l.a, &l.b, 1.0)),
                    },
                ],
            ),
        ]
    }
}

/// Which of the tied tensors a file has.
#[derive(Clone, Copy)]
enum Head {
    /// `wte.weight` alone.
    None,
    /// Both.
    Both,
    /// `lm_head.weight` alone.
    Alone,
}

/// The tensors of a small GPT-2 as in Hugging Face's files: with a prefix and masks, or without; the head in one of three ways.
fn stored(draw: &mut Draw) -> Result<Weights> {
    let (_, weights) = small(draw)?;
    let prefix = draw.in_turn(&["transformer.", ""]);
    let mut tensors: Weights = weights
        .into_iter()
        .map(|(name, array)| (format!("{prefix}{name}"), array))
        .collect();
    tensors.insert(format!("{prefix}h.0.attn.bias"), draw.normal(&[1, 1, 8, 8])?);
    tensors.insert(format!("{prefix}h.0.attn.masked_bias"), Array::from_f32(-1e4));
    let embedding = format!("{prefix}wte.weight");
    match draw.in_turn(&[Head::Both, Head::None, Head::Alone]) {
        Head::None => {}
        Head::Both => {
            tensors.insert("lm_head.weight".into(), tensors[&embedding].clone());
        }
        Head::Alone => {
            if let Some(table) = tensors.remove(&embedding) {
                tensors.insert("lm_head.weight".into(), table);
            }
        }
    }
    Ok(tensors)
}

/// The weights, with their names as they are in the file.
fn without_masks(tensors: &Weights) -> Weights {
    let kept = tensors
        .iter()
        .filter(|(name, _)| !name.ends_with(".attn.bias") && !name.ends_with("masked_bias"));
    kept.map(|(name, array)| (name.clone(), array.clone())).collect()
}

/// Names, shapes and numbers.
fn named(weights: &Weights) -> Result<Value> {
    let mut numbers: Vec<f64> = Vec::new();
    for (name, array) in weights {
        numbers.extend(name.bytes().map(f64::from));
        numbers.extend(array.shape().iter().map(|&n| f64::from(n)));
        let flat = array.flatten(None, None)?.to_vec_exact::<f32>()?;
        numbers.extend(flat.into_iter().map(f64::from));
    }
    Ok(Value::list(numbers))
}
