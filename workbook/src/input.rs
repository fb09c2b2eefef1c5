//! What a learner's function was called with, in words.

use std::collections::BTreeMap;

use mlx_gpt::course::day07::Shape;
use mlx_rs::Array;

/// An input of an exercise.
pub trait Input {
    /// Its shape, if it is an array; else its value.
    fn describe(&self) -> String;
}

impl Input for Array {
    fn describe(&self) -> String {
        format!("{:?}", self.shape())
    }
}

macro_rules! plain {
    ($($kind:ty),*) => {$(
        impl Input for $kind {
            fn describe(&self) -> String {
                format!("{self:?}")
            }
        }
    )*};
}

plain!(u32, u64, usize, i32, f32, f64, String, Shape);

impl<T: Input> Input for [T] {
    fn describe(&self) -> String {
        format!("({})", joined(self.iter().map(Input::describe)))
    }
}

impl<T: Input> Input for Vec<T> {
    fn describe(&self) -> String {
        self.as_slice().describe()
    }
}

impl<T: Input, const N: usize> Input for [T; N] {
    fn describe(&self) -> String {
        self.as_slice().describe()
    }
}

impl<K: Input, V: Input> Input for BTreeMap<K, V> {
    fn describe(&self) -> String {
        let entries = self
            .iter()
            .map(|(key, value)| format!("{}: {}", key.describe(), value.describe()));
        format!("{{{}}}", joined(entries))
    }
}

impl<A: Input, B: Input> Input for (A, B) {
    fn describe(&self) -> String {
        joined([self.0.describe(), self.1.describe()])
    }
}

impl<A: Input, B: Input, C: Input> Input for (A, B, C) {
    fn describe(&self) -> String {
        joined([self.0.describe(), self.1.describe(), self.2.describe()])
    }
}

/// Parts with a comma between them.
pub fn joined(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().collect::<Vec<_>>().join(", ")
}

/// Named arrays and numbers, such as the fields of a struct.
pub fn fields<const N: usize>(fields: [(&str, &dyn Input); N]) -> String {
    joined(fields.map(|(name, input)| format!("{name} {}", input.describe())))
}
