//! Weights from one floating-point type to another.

use crate::repository::manifest::WeightType;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};

/// Why weights cannot be re-encoded.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Not a safetensors file.
    #[error("not a safetensors file: {0}")]
    Format(#[from] SafeTensorError),
    /// A type that is not converted.
    #[error("tensor {tensor} is {dtype:?}; only F32, F16 and BF16 can be converted")]
    Dtype {
        /// Its name.
        tensor: String,
        /// Its type.
        dtype: Dtype,
    },
    /// A value that the target cannot hold.
    #[error("tensor {tensor} holds {value}, which is outside the range of {target:?}")]
    Range {
        /// Its name.
        tensor: String,
        /// The value.
        value: f32,
        /// The target.
        target: WeightType,
    },
}

/// Stores every floating-point tensor as `target`. A file that already is so is given back byte for byte, so that its
/// digest stays the publisher's. Tensors of integers (position ids) are kept as they are.
pub(super) fn encode(file: Vec<u8>, target: WeightType) -> Result<Vec<u8>, WeightsError> {
    let wanted = match target {
        WeightType::F32 => Dtype::F32,
        WeightType::F16 => Dtype::F16,
    };
    let source = SafeTensors::deserialize(&file)?;
    let mut changed = false;
    let mut tensors = Vec::with_capacity(source.len());
    for (name, view) in source.iter() {
        let keep = view.dtype() == wanted || matches!(view.dtype(), Dtype::I64 | Dtype::I32);
        let data = if keep {
            view.data().to_vec()
        } else {
            convert(name, &view, target)?
        };
        changed |= !keep;
        tensors.push((
            name,
            if keep { view.dtype() } else { wanted },
            view.shape().to_vec(),
            data,
        ));
    }
    if !changed {
        return Ok(file);
    }
    let views: Result<Vec<_>, _> = tensors
        .iter()
        .map(|(name, dtype, shape, data)| TensorView::new(*dtype, shape.clone(), data).map(|view| (name, view)))
        .collect();
    Ok(safetensors::serialize(views?, None)?)
}

fn convert(tensor: &str, view: &TensorView<'_>, target: WeightType) -> Result<Vec<u8>, WeightsError> {
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => view
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect(),
        Dtype::F16 => view
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f16::from_le_bytes(*bytes).to_f32())
            .collect(),
        Dtype::BF16 => view
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|bytes| bf16::from_le_bytes(*bytes).to_f32())
            .collect(),
        dtype => {
            return Err(WeightsError::Dtype {
                tensor: tensor.to_owned(),
                dtype,
            });
        }
    };
    let mut data = Vec::with_capacity(values.len() * 4);
    for value in values {
        match target {
            WeightType::F32 => data.extend(value.to_le_bytes()),
            WeightType::F16 => {
                let half = f16::from_f32(value);
                if !half.is_finite() {
                    return Err(WeightsError::Range {
                        tensor: tensor.to_owned(),
                        value,
                        target,
                    });
                }
                data.extend(half.to_le_bytes());
            }
        }
    }
    Ok(data)
}
