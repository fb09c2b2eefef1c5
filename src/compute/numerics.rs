//! What determines floating-point rounding besides the configuration. A run that is resumed where one of these differs is no
//! longer bit-identical to the uninterrupted one.

use std::collections::BTreeMap;

use sysinfo::System;

use super::kernels::{self, Compiler};
use crate::config::Device;

/// Libraries, kernels and processor by name: what checkpoints record under the key `arithmetic`.
pub type NumericsFingerprint = BTreeMap<String, String>;

/// Those of this program on this machine.
pub fn current(device: Device) -> NumericsFingerprint {
    let on_cpu = || {
        let compiler = kernels::compiler().map(|compiler| match compiler {
            Compiler::Found(name) => name,
            Compiler::Missing => "none".to_owned(),
        });
        [
            ("kernels", kernels::setting()),
            ("BLAS", kernels::blas()),
            ("compiler", compiler),
        ]
    };
    let general = [
        ("MLX", Some(env!("MLX_VERSION").to_owned())),
        ("processor", Some(processor().0)),
    ];
    let mut known: Vec<_> = general.into();
    if device == Device::Cpu {
        known.extend(on_cpu());
    }
    known
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// A message for each entry of `before` that differs now; entries that were not recorded are ignored.
pub fn changes(before: &NumericsFingerprint, now: &NumericsFingerprint) -> Vec<String> {
    before
        .iter()
        .filter_map(|(name, old)| match now.get(name) {
            Some(new) if new == old => None,
            Some(new) => Some(format!(
                "{name} {old} is now {new}; results may differ in the last digits"
            )),
            None => Some(format!("{name} was {old}; results may differ in the last digits")),
        })
        .collect()
}

/// The processor's name and its number of cores.
pub fn processor() -> (String, usize) {
    let mut system = System::new();
    system.refresh_cpu_all();
    let name = system.cpus().first().map_or("unknown", |cpu| cpu.brand().trim());
    (name.to_owned(), system.cpus().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_said_of_what_was_recorded() {
        let of = |pairs: &[(&str, &str)]| -> NumericsFingerprint {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let before = of(&[("BLAS", "old"), ("MLX", "1"), ("compiler", "g++")]);
        let now = of(&[("BLAS", "new"), ("MLX", "1"), ("kernels", "on")]);
        let said = changes(&before, &now);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].starts_with("BLAS old is now new") && said[1].starts_with("compiler was g++"),
            "{said:?}"
        );
        assert!(
            changes(&NumericsFingerprint::new(), &now).is_empty(),
            "an older program recorded nothing"
        );
    }
}
