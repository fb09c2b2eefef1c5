//! Strict reading and writing of safetensors files.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail, ensure};
use half::{bf16, f16};
use memmap2::Mmap;
use mlx_rs::{Array, Dtype};
use safetensors::tensor::{Dtype as Stored, Metadata, SafeTensors, TensorInfo, View};

use crate::compute::mapped;
use crate::config::{ModelConfig, Precision};
use crate::disk::files;
use crate::disk::floats;
use crate::model::init::layout;
use crate::model::parameters::Parameters;

/// The tensors that must be present, by name.
pub type ExpectedTensors = BTreeMap<String, TensorSpec>;

/// The required shape and kind of a tensor.
pub struct TensorSpec {
    /// Its dimensions.
    pub shape: Vec<i32>,
    /// Its kind of numbers.
    pub kind: TensorKind,
}

/// The kind of numbers of a tensor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TensorKind {
    /// float32, float16 or bfloat16; read as float32.
    Float,
    /// The same, which may stay in 16 bits where it is [mapped](Hold::Mapped).
    Matrix,
    /// uint32, each packing several numbers of a quantized matrix.
    Packed,
}

/// How tensors are held in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// In memory of their own.
    Copied,
    /// In the pages of their file, which must not change meanwhile, where MLX can compute with them. Pages that are written to
    /// are copied.
    Mapped,
}

impl TensorSpec {
    /// A floating-point tensor.
    pub fn float(shape: Vec<i32>) -> Self {
        let kind = TensorKind::Float;
        Self { shape, kind }
    }
}

/// The parameters of a model whose names `choose` accepts, as floating-point tensors.
pub fn of_layout(model: &ModelConfig, choose: impl Fn(&str) -> bool) -> ExpectedTensors {
    layout(model)
        .into_iter()
        .filter(|spec| choose(&spec.name))
        .map(|spec| (spec.name, TensorSpec::float(spec.shape)))
        .collect()
}

/// An open file; each tensor is mapped into memory while it is read.
pub struct TensorFile {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Offset of the tensors' data.
    data: usize,
}

impl TensorFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// It does not exist, is not a safetensors file, or is truncated.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = files::open(path).with_context(|| format!("{shown} cannot be read"))?;
        // Only the header's pages are read here.
        let whole = file
            .metadata()
            .map_err(Error::from)
            .and_then(|metadata| files::map(&file, 0, usize::try_from(metadata.len())?))
            .with_context(|| format!("{shown} cannot be read"))?;
        let (header, metadata) = SafeTensors::read_metadata(&whole)
            .with_context(|| format!("{shown} is damaged or not a safetensors file; restore it from its source"))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            metadata,
            data: size_of::<u64>() + header,
        })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its tensors, in the order of their data.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// The bytes of a tensor.
    ///
    /// # Errors
    /// The file has no such tensor, or cannot be read.
    pub fn bytes(&self, name: &str) -> Result<Mmap> {
        let (from, to) = self.info(name)?.data_offsets;
        files::map(&self.file, (self.data + from) as u64, to - from)
            .with_context(|| format!("{} cannot be read", self.path.display()))
    }

    /// The number format of a tensor.
    ///
    /// # Errors
    /// The file has no such tensor.
    pub fn dtype(&self, name: &str) -> Result<Stored> {
        Ok(self.info(name)?.dtype)
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.metadata
            .info(name)
            .with_context(|| format!("{} has no tensor {name}", self.path.display()))
    }

    /// A tensor as an array over the pages of the file. None where it has to be converted or copied.
    fn mapped(&self, name: &str, TensorSpec { shape, kind }: &TensorSpec) -> Result<Option<Array>> {
        let info = self.info(name)?;
        let dtype = match (info.dtype, kind) {
            (Stored::F32, _) => Dtype::Float32,
            (Stored::U32, _) => Dtype::Uint32,
            (Stored::F16, TensorKind::Matrix) => Dtype::Float16,
            (Stored::BF16, TensorKind::Matrix) => Dtype::Bfloat16,
            _ => return Ok(None),
        };
        let (from, to) = info.data_offsets;
        // The file's header stands before the first.
        let before = mapped::BYTES_BEFORE;
        let pages = files::map_privately(&self.file, (self.data + from - before) as u64, to - from + before)
            .with_context(|| format!("{} cannot be read", self.path.display()))?;
        Ok(mapped::array_over(pages, shape, dtype))
    }

    /// A tensor as an array of that shape: F32, F16 and BF16 become float32, U32 stays uint32.
    fn read(&self, name: &str, shape: &[i32]) -> Result<Array> {
        let bytes = self.bytes(name)?;
        Ok(match self.info(name)?.dtype {
            Stored::F32 => Array::from_slice(&cast::<f32>(&bytes), shape),
            Stored::U32 => Array::from_slice(&cast::<u32>(&bytes), shape),
            Stored::F16 => widened(&cast::<f16>(&bytes), shape, f16::to_f32),
            Stored::BF16 => widened(&cast::<bf16>(&bytes), shape, bf16::to_f32),
            other => bail!(
                "{}: tensor {name} has format {other}; only F32, F16 and BF16 are supported",
                self.path.display()
            ),
        })
    }
}

/// Bytes as numbers; copied only if they are not aligned, which is rare. All processors that MLX runs on are little-endian,
/// as safetensors is.
fn cast<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(bytes: &[u8]) -> Cow<'_, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(numbers) => Cow::Borrowed(numbers),
        Err(_) => Cow::Owned(bytemuck::allocation::pod_collect_to_vec(bytes)),
    }
}

fn widened<T: Copy>(numbers: &[T], shape: &[i32], widen: impl Fn(T) -> f32) -> Array {
    let wide: Vec<f32> = numbers.iter().map(|&number| widen(number)).collect();
    Array::from_slice(&wide, shape)
}

/// Reads arrays whose names and shapes are exactly `expected`. `name_of` maps a stored name to a parameter's, or to `None` to
/// ignore the tensor.
///
/// The largest are read first, to limit peak memory, since mapped pages count too.
///
/// # Errors
/// A tensor is missing, unexpected, or has another shape or kind.
pub fn read(
    files: &[TensorFile],
    name_of: impl Fn(&str) -> Option<String>,
    expected: &ExpectedTensors,
    hold: Hold,
) -> Result<Parameters> {
    let mut found: BTreeMap<String, (&TensorFile, String)> = BTreeMap::new();
    for file in files {
        let shown = file.path.display();
        for stored in file.names() {
            let Some(name) = name_of(&stored) else { continue };
            ensure!(
                expected.contains_key(&name),
                "{shown} has an unexpected tensor {stored}, which a model with this config.json does not have"
            );
            if let Some((_, other)) = found.insert(name, (file, stored.clone())) {
                bail!(
                    "{shown} has {other} and {stored}, which are the same parameter; save the model again with one of them"
                );
            }
        }
    }
    let mut located = Vec::with_capacity(expected.len());
    for (name, spec) in expected {
        let TensorSpec { shape, kind } = spec;
        let (file, stored) = found.get(name).with_context(|| {
            let shown: Vec<_> = files.iter().map(|file| file.path.display().to_string()).collect();
            format!(
                "{} has no tensor {name}, which a model with this config.json needs",
                shown.join(", ")
            )
        })?;
        let shown = file.path.display();
        let info = file.info(stored)?;
        ensure!(
            info.shape
                .iter()
                .map(|&n| n as i64)
                .eq(shape.iter().map(|&n| i64::from(n))),
            "{shown}: tensor {stored} has shape {:?}, the model needs {shape:?}",
            info.shape
        );
        ensure!(
            (*kind == TensorKind::Packed) == (info.dtype == Stored::U32),
            "{shown}: tensor {stored} has format {}, the model needs {}",
            info.dtype,
            match kind {
                TensorKind::Packed => "U32",
                TensorKind::Float | TensorKind::Matrix => "floating-point numbers",
            }
        );
        located.push((name, file, stored, spec));
    }
    located.sort_by_key(|(.., spec)| std::cmp::Reverse(spec.shape.iter().map(|&n| n as usize).product::<usize>()));
    let entries = located.into_iter().map(|(name, file, stored, spec)| {
        let mapped = match hold {
            Hold::Mapped => file.mapped(stored, spec)?,
            Hold::Copied => None,
        };
        let array = mapped.map_or_else(|| file.read(stored, &spec.shape), Ok)?;
        Ok((name.clone(), array))
    });
    Ok(Parameters::from_entries(entries.collect::<Result<_>>()?))
}

/// Writes contiguous arrays of any shape: uint32 unchanged, float32 in the format `precision`.
///
/// # Errors
/// The file cannot be written, an array has another type or is not contiguous, or a number overflows float16.
pub fn write<'a>(path: &Path, precision: Precision, arrays: impl Iterator<Item = (String, &'a Array)>) -> Result<()> {
    let tensors = arrays
        .map(|(name, array)| {
            let tensor = TensorView::new(array, precision).with_context(|| format!("tensor {name}"))?;
            Ok((name, tensor))
        })
        .collect::<Result<Vec<_>>>()?;
    // Readers such as transformers check which framework's conventions the layout follows.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    // The library creates files that only the owner can read; this one gets the default permissions of new files.
    let permissions = File::create(path)?.metadata()?.permissions();
    safetensors::serialize_to_file(tensors, Some(metadata), path)?;
    std::fs::set_permissions(path, permissions)?;
    Ok(())
}

/// An array to be written.
struct TensorView<'a> {
    numbers: Numbers<'a>,
    shape: Vec<usize>,
}

enum Numbers<'a> {
    Float(&'a [f32], Precision),
    Packed(&'a [u32]),
}

impl<'a> TensorView<'a> {
    fn new(array: &'a Array, precision: Precision) -> Result<Self> {
        // Parameters are contiguous; a strided view fails here instead of being written wrongly.
        let numbers = if array.dtype() == Dtype::Uint32 {
            Numbers::Packed(array.try_as_slice()?)
        } else {
            let floats = array.try_as_slice::<f32>()?;
            // float32 is written unchanged, even if not finite; narrower formats must not overflow.
            if precision != Precision::Float32 {
                floats::check(floats, precision)?;
            }
            Numbers::Float(floats, precision)
        };
        Ok(Self {
            numbers,
            shape: array.shape().iter().map(|&n| n as usize).collect(),
        })
    }
}

impl View for TensorView<'_> {
    fn dtype(&self) -> Stored {
        match self.numbers {
            Numbers::Packed(_) => Stored::U32,
            Numbers::Float(_, Precision::Float32) => Stored::F32,
            Numbers::Float(_, Precision::Float16) => Stored::F16,
            Numbers::Float(_, Precision::Bfloat16) => Stored::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.numbers {
            Numbers::Packed(numbers) => Cow::Borrowed(bytemuck::cast_slice(numbers)),
            Numbers::Float(numbers, Precision::Float32) => Cow::Borrowed(bytemuck::cast_slice(numbers)),
            Numbers::Float(floats, precision) => {
                let mut bytes = Vec::with_capacity(self.data_len());
                floats::encode(floats, precision, &mut bytes);
                bytes.into()
            }
        }
    }

    fn data_len(&self) -> usize {
        match self.numbers {
            Numbers::Packed(numbers) => size_of_val(numbers),
            Numbers::Float(numbers, Precision::Float32) => size_of_val(numbers),
            Numbers::Float(numbers, _) => size_of::<f16>() * numbers.len(),
        }
    }
}
