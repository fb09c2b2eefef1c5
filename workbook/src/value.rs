//! What a learner's function returns, and how two of them differ.

use std::fmt;

use anyhow::Result;
use mlx_rs::{Array, Dtype, ops};

/// A result in plain numbers, with its shape.
#[derive(Clone, PartialEq)]
pub struct Value {
    kind: Kind,
    shape: Vec<usize>,
    numbers: Vec<f64>,
}

/// The kind of a result's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True and false.
    Bool,
    /// Of any size.
    Integer,
    /// Of 32 bits or fewer.
    Float,
    /// Of 64 bits, as no model here has them.
    Double,
}

impl From<Dtype> for Kind {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Bool => Self::Bool,
            Dtype::Float64 => Self::Double,
            Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16 | Dtype::Complex64 => Self::Float,
            _ => Self::Integer,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "true and false",
            Self::Integer => "integers",
            Self::Float => "float32",
            Self::Double => "float64",
        })
    }
}

impl Value {
    /// That of a list of numbers.
    pub fn list(numbers: impl IntoIterator<Item = impl Into<f64>>) -> Self {
        let numbers: Vec<f64> = numbers.into_iter().map(Into::into).collect();
        Self {
            kind: Kind::Float,
            shape: vec![numbers.len()],
            numbers,
        }
    }

    /// That of an array of any shape; of integers and booleans too.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn array(array: &Array) -> Result<Self> {
        let flat = array.as_dtype(Dtype::Float32)?.flatten(None, None)?;
        Ok(Self {
            kind: array.dtype().into(),
            shape: array.shape().iter().map(|&n| n as usize).collect(),
            numbers: flat.to_vec_exact::<f32>()?.into_iter().map(f64::from).collect(),
        })
    }

    /// Several arrays, one after the other along a new first axis.
    ///
    /// # Errors
    /// As [`array`](Self::array); arrays of different shapes.
    pub fn arrays(arrays: &[Array]) -> Result<Self> {
        Self::array(&ops::stack(arrays, 0)?)
    }

    /// The numbers of arrays of any shapes, one after the other.
    ///
    /// # Errors
    /// As [`array`](Self::array).
    pub fn numbers<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<Self> {
        let values = arrays.into_iter().map(Self::array);
        let values = values.collect::<Result<Vec<_>>>()?;
        Ok(Self::list(values.into_iter().flat_map(|value| value.numbers)))
    }

    /// The first place where `other` differs from this by more than `tolerance`, relative to the largest number and at least to 1;
    /// none if it is the same.
    pub fn difference(&self, other: &Self, tolerance: f64) -> Option<Difference> {
        if self.shape != other.shape {
            return Some(Difference::Shape(self.shape.clone(), other.shape.clone()));
        }
        if self.kind != other.kind {
            return Some(Difference::Kind(self.kind, other.kind));
        }
        let finite = self.numbers.iter().filter(|number| number.is_finite());
        let largest = finite.fold(1.0_f64, |largest, number| largest.max(number.abs()));
        let close = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * largest;
        let pairs = self.numbers.iter().zip(&other.numbers);
        let wrong: Vec<usize> = pairs
            .enumerate()
            .filter(|(_, (a, b))| !close(**a, **b))
            .map(|(at, _)| at)
            .collect();
        wrong.first().map(|&first| Difference::Numbers {
            kind: self.kind,
            place: self.place(first),
            expected: self.numbers[first],
            found: other.numbers[first],
            wrong: wrong.len(),
            all: self.numbers.len(),
        })
    }

    /// The indices of a number, by axis.
    fn place(&self, mut at: usize) -> Vec<usize> {
        let mut place: Vec<usize> = self
            .shape
            .iter()
            .rev()
            .map(|&size| {
                let index = at % size.max(1);
                at /= size.max(1);
                index
            })
            .collect();
        place.reverse();
        place
    }
}

/// The value of what a function of arrays returns.
///
/// # Errors
/// Those of the function.
pub fn value(array: mlx_rs::error::Result<Array>) -> Result<Value> {
    Value::array(&array?)
}

/// How a result differs from the expected one.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// Expected and found kind of numbers.
    Kind(Kind, Kind),
    /// Expected and found shape.
    Shape(Vec<usize>, Vec<usize>),
    /// The first number that differs.
    Numbers {
        kind: Kind,
        place: Vec<usize>,
        expected: f64,
        found: f64,
        /// How many differ.
        wrong: usize,
        /// Of how many.
        all: usize,
    },
}

impl Difference {
    /// What to look at, where the difference itself says it.
    pub fn hint(&self) -> Option<&'static str> {
        let (expected, found) = match self {
            Self::Shape(expected, found) => (expected, found),
            Self::Kind(Kind::Bool, _) => return Some("a comparison such as `gt`, `lt`, `eq` gives true and false"),
            Self::Kind(Kind::Float, _) => return Some("`as_dtype(Dtype::Float32)` makes numbers of it"),
            _ => return None,
        };
        let without_ones = |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
        let sorted = |shape: &[usize]| {
            let mut shape = shape.to_vec();
            shape.sort_unstable();
            shape
        };
        let elements = |shape: &[usize]| shape.iter().product::<usize>();
        if without_ones(expected) == without_ones(found) {
            Some(
                "an axis of size 1 is missing or left over: the last argument of `…_axis(…, true)` keeps one, `squeeze` removes it",
            )
        } else if sorted(expected) == sorted(found) {
            Some("the axes are in another order: `swap_axes`, `transpose_axes`")
        } else if elements(expected) == elements(found) {
            Some("the number of elements is right: they are divided into axes in another way")
        } else if expected.len() > found.len() {
            Some("an axis is missing: was it summed over, or indexed away?")
        } else {
            None
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(expected, found) => write!(f, "expected {expected}, found {found}"),
            Self::Shape(expected, found) => write!(f, "expected the shape {expected:?}, found {found:?}"),
            Self::Numbers {
                kind: Kind::Bool,
                place,
                expected,
                wrong,
                all,
                ..
            } => {
                let expected = *expected == 1.0;
                write!(
                    f,
                    "at {place:?} expected {expected}, found {}; {wrong} of {all} differ",
                    !expected
                )
            }
            Self::Numbers {
                place,
                expected,
                found,
                wrong,
                all,
                ..
            } => write!(
                f,
                "at {place:?} expected {expected:.6}, found {found:.6}{}; {wrong} of {all} numbers differ",
                if found.is_nan() {
                    " (0 divided by 0, 0 times infinity, or infinity less infinity)"
                } else {
                    ""
                }
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let expected = Value::array(&Array::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2])).unwrap();
        let found = Value::array(&Array::from_slice(&[1.0_f32, 2.0, 3.5, 5.0], &[2, 2])).unwrap();
        assert_eq!(expected.difference(&expected, 0.0), None);
        let said = expected.difference(&found, 1e-5).unwrap().to_string();
        assert_eq!(
            said,
            "at [1, 0] expected 3.000000, found 3.500000; 2 of 4 numbers differ"
        );
        let said = expected
            .difference(&Value::list([1.0, 2.0, 3.0, 4.0]), 1e-5)
            .unwrap()
            .to_string();
        assert_eq!(said, "expected the shape [2, 2], found [4]");
    }

    #[test]
    fn kinds_of_numbers_are_told_apart() {
        let of = |dtype| Value::array(&Array::from_slice(&[1.0_f32, 0.0], &[2]).as_dtype(dtype).unwrap()).unwrap();
        let kinds = [Dtype::Bool, Dtype::Int32, Dtype::Float32, Dtype::Float64].map(of);
        for (index, expected) in kinds.iter().enumerate() {
            for (other, found) in kinds.iter().enumerate() {
                assert_eq!(
                    expected.difference(found, 0.0).is_none(),
                    index == other,
                    "{index} {other}"
                );
            }
        }
        let difference = kinds[2].difference(&kinds[3], 0.0).unwrap();
        assert_eq!(difference.to_string(), "expected float32, found float64");
        assert!(difference.hint().unwrap().contains("Float32"));
    }

    #[test]
    fn infinities_are_equal_and_nan_is_not_a_number() {
        let minus = Value::list([f64::NEG_INFINITY, 1.0]);
        assert_eq!(minus.difference(&minus, 1e-6), None);
        assert!(minus.difference(&Value::list([f64::NAN, 1.0]), 1e-6).is_some());
    }
}
