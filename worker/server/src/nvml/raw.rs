//! The calls to NVML that its wrapper lacks: fields with a scope, row remapping, the margin to the hottest that a card may be.
//!
//! What they mean: NVIDIA, *NVML API Reference*, `nvml.h`. All unsafe code of the worker is in this file.
#![allow(unsafe_code)]

use nvml_wrapper::{
    Device,
    error::{NvmlError, nvml_sym, nvml_try},
};
use nvml_wrapper_sys::bindings::{
    field_id::{
        NVML_FI_DEV_NVLINK_LINK_COUNT, NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX,
        NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT,
    },
    nvmlFieldValue_t, nvmlMarginTemperature_t, nvmlValue_t,
    nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_INT as SIGNED_INT,
    nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_LONG_LONG as SIGNED_LONG_LONG,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT as UNSIGNED_INT,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG as UNSIGNED_LONG,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG as UNSIGNED_LONG_LONG,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_SHORT as UNSIGNED_SHORT,
};

/// A value that NVML has a number for and no function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    id: u32,
    scope: u32,
}

impl Field {
    /// All links together.
    pub(super) const ALL_LINKS: u32 = u32::MAX;
    /// NVLinks that the card has, up or not.
    pub(super) const LINKS: Self = Self::of(NVML_FI_DEV_NVLINK_LINK_COUNT, 0);
    /// The margin at which the card slows itself down, °C; 0 or less.
    pub(super) const SLOWDOWN_MARGIN: Self = Self::of(NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT, 0);

    const fn of(id: u32, scope: u32) -> Self {
        Self { id, scope }
    }

    /// Data that a link has sent and that it has received, KiB.
    pub(super) const fn link_data(link: u32) -> [Self; 2] {
        [
            Self::of(NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, link),
            Self::of(NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, link),
        ]
    }
}

/// Asks for several fields; each has an answer of its own.
pub(super) fn fields(device: &Device<'_>, fields: &[Field]) -> Result<Vec<Result<i64, NvmlError>>, NvmlError> {
    let get = nvml_sym(device.nvml().lib().nvmlDeviceGetFieldValues.as_ref())?;
    let blank = |field: &Field| nvmlFieldValue_t {
        fieldId: field.id,
        scopeId: field.scope,
        timestamp: 0,
        latencyUsec: 0,
        valueType: 0,
        nvmlReturn: 0,
        value: nvmlValue_t { ullVal: 0 },
    };
    let mut values: Vec<nvmlFieldValue_t> = fields.iter().map(blank).collect();
    let count = i32::try_from(values.len()).map_err(|_| NvmlError::InvalidArg)?;
    // SAFETY: the handle lives as long as the device; NVML writes `count` values in place and keeps no pointer.
    nvml_try(unsafe { get(device.handle(), count, values.as_mut_ptr()) })?;
    let read = |value: &nvmlFieldValue_t| {
        nvml_try(value.nvmlReturn)?;
        number(value)
    };
    Ok(values.iter().map(read).collect())
}

/// Asks for one field.
pub(super) fn field(device: &Device<'_>, field: Field) -> Result<i64, NvmlError> {
    let answer = fields(device, &[field])?.pop();
    answer.unwrap_or(Err(NvmlError::NoData))
}

/// The whole number that a field holds.
fn number(field: &nvmlFieldValue_t) -> Result<i64, NvmlError> {
    let too_large = |_| NvmlError::UnexpectedVariant(field.valueType);
    // SAFETY: every bit of the union was set to 0 when it was made, and all bits make a number of each of these types.
    unsafe {
        match field.valueType {
            UNSIGNED_INT => Ok(field.value.uiVal.into()),
            UNSIGNED_LONG => i64::try_from(field.value.ulVal).map_err(too_large),
            UNSIGNED_LONG_LONG => i64::try_from(field.value.ullVal).map_err(too_large),
            SIGNED_LONG_LONG => Ok(field.value.sllVal),
            SIGNED_INT => Ok(field.value.siVal.into()),
            UNSIGNED_SHORT => Ok(field.value.usVal.into()),
            other => Err(NvmlError::UnexpectedVariant(other)),
        }
    }
}

/// Rows of the memory that were remapped since the card was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct RemappedRows {
    /// Some wait for the next reset.
    pub(super) pending: bool,
    /// One could not be.
    pub(super) failed: bool,
}

/// What became of bad rows of the memory; Ampere and newer.
pub(super) fn remapped_rows(device: &Device<'_>) -> Result<RemappedRows, NvmlError> {
    let get = nvml_sym(device.nvml().lib().nvmlDeviceGetRemappedRows.as_ref())?;
    let (mut corrected, mut uncorrected, mut pending, mut failed) = (0, 0, 0, 0);
    // SAFETY: the handle lives as long as the device; NVML writes four numbers in place and keeps no pointer.
    nvml_try(unsafe {
        get(
            device.handle(),
            &raw mut corrected,
            &raw mut uncorrected,
            &raw mut pending,
            &raw mut failed,
        )
    })?;
    Ok(RemappedRows {
        pending: pending != 0,
        failed: failed != 0,
    })
}

/// How much hotter the chip may get before its limit, °C: `T.Limit` of nvidia-smi.
pub(super) fn margin_c(device: &Device<'_>) -> Result<i32, NvmlError> {
    // `NVML_STRUCT_VERSION`: the structure's size, and above it its version.
    const VERSION: u32 = size_of::<nvmlMarginTemperature_t>() as u32 | 1 << 24;
    let get = nvml_sym(device.nvml().lib().nvmlDeviceGetMarginTemperature.as_ref())?;
    let mut margin = nvmlMarginTemperature_t {
        version: VERSION,
        marginTemperature: 0,
    };
    // SAFETY: the handle lives as long as the device; NVML writes the structure of this version in place.
    nvml_try(unsafe { get(device.handle(), &raw mut margin) })?;
    Ok(margin.marginTemperature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_by_the_type_that_it_says_it_has() {
        let field = |value_type, value| nvmlFieldValue_t {
            fieldId: 0,
            scopeId: 0,
            timestamp: 0,
            latencyUsec: 0,
            valueType: value_type,
            nvmlReturn: 0,
            value,
        };
        let mut minus_two = nvmlValue_t { ullVal: 0 };
        minus_two.siVal = -2;
        let signed = field(SIGNED_INT, minus_two);
        assert_eq!(number(&signed).unwrap(), -2);
        let unsigned = field(UNSIGNED_INT, minus_two);
        assert_eq!(number(&unsigned).unwrap(), i64::from(u32::MAX) - 1);
        let large = nvmlValue_t { ullVal: u64::MAX };
        for value_type in [UNSIGNED_LONG_LONG, 0, 99] {
            assert!(number(&field(value_type, large)).is_err(), "{value_type}");
        }
    }
}
