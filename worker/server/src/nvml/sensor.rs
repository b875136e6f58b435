//! How a card is: one reading after the other.

use super::{Refusal, Refusals, raw, raw::Field};
use kilocard_registry::telemetry::{EccReading, GpuReading, NvLinkReading, PcieReading};
use nvml_wrapper::{
    Device,
    bitmasks::device::ThrottleReasons,
    enum_wrappers::device::{Clock, EccCounter, MemoryError, PcieUtilCounter, TemperatureSensor, TemperatureThreshold},
    error::NvmlError,
};
use serde::Serialize;
use std::time::Instant;

/// The links of a card whose driver does not tell their number (`NVML_NVLINK_MAX_LINKS`).
const LINKS_UNTOLD: u32 = 18;
/// More links than any card has: what a driver tells beyond it is not believed.
const MOST_LINKS: u32 = 256;
/// NVML counts PCIe throughput in KB and NVLink data in KiB, and means the same.
const KIB: u64 = 1024;

/// What a card said.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reading {
    /// Memory, bytes; 0 for unknown.
    pub memory_total_bytes: u64,
    /// Free memory, bytes.
    pub memory_free_bytes: u64,
    /// Everything else.
    pub gpu: GpuReading,
}

/// A card that is asked again and again. What it only counts becomes a rate from the second reading on.
#[derive(Debug)]
pub struct Sensor<'nvml> {
    device: Device<'nvml>,
    /// Links that it has.
    links: u32,
    /// Links that were up at first.
    expected: u32,
    /// What all links together had carried, bytes, and when.
    carried: Option<(Instant, u64)>,
}

impl<'nvml> Sensor<'nvml> {
    /// Takes the links that are up now for those that should be.
    pub fn new(device: Device<'nvml>) -> Self {
        let links = links(&device);
        let expected = active_links(&device, links).count();
        Self {
            device,
            links,
            expected: u32::try_from(expected).unwrap_or(links),
            carried: None,
        }
    }

    /// The card.
    pub fn device(&self) -> &Device<'nvml> {
        &self.device
    }

    /// Asks for everything.
    pub fn read(&mut self) -> (Reading, Vec<Refusal>) {
        let mut refusals = Refusals::default();
        let device = &self.device;
        let memory = refusals.ok("memory_total_bytes", device.memory_info());
        let reasons = refusals.ok("gpu.throttle_reasons", device.current_throttle_reasons());
        let utilisation = refusals.ok("gpu.utilisation", device.utilization_rates());
        let gpu = GpuReading {
            sm_clock_mhz: refusals.ok("gpu.sm_clock_mhz", device.clock_info(Clock::SM)),
            max_sm_clock_mhz: refusals.ok("gpu.max_sm_clock_mhz", device.max_clock_info(Clock::SM)),
            throttle_reasons: reasons.map(words).unwrap_or_default(),
            temperature_c: refusals
                .ok("gpu.temperature_c", device.temperature(TemperatureSensor::Gpu))
                .map(f64::from),
            slowdown_temperature_c: refusals.ok("gpu.slowdown_temperature_c", slowdown(device)),
            pcie: pcie(device, &mut refusals),
            ecc: ecc(device, &mut refusals),
            utilisation: utilisation.map(|rates| f64::from(rates.gpu) / 100.0),
            nvlink: self.nvlink(&mut refusals),
            xids: Vec::new(),
        };
        let reading = Reading {
            memory_total_bytes: memory.as_ref().map_or(0, |memory| memory.total),
            memory_free_bytes: memory.as_ref().map_or(0, |memory| memory.free),
            gpu,
        };
        (reading, refusals.0)
    }

    fn nvlink(&mut self, refusals: &mut Refusals) -> Option<NvLinkReading> {
        let active: Vec<u32> = active_links(&self.device, self.links).collect();
        if self.expected == 0 && active.is_empty() {
            let first = self.device.link_wrapper_for(0).is_active();
            // It may have links with nothing at their other ends.
            let why = first.map_or_else(|error| super::reason(&error), |_| "no link is up".to_owned());
            refusals.name("gpu.nvlink", why);
            return None;
        }
        let count = refusals.ok("gpu.nvlink.bytes_per_s", carried(&self.device, &active));
        let before = self.carried.take();
        self.carried = count.map(|bytes| (Instant::now(), bytes));
        Some(NvLinkReading {
            active: u32::try_from(active.len()).unwrap_or(self.links),
            expected: self.expected,
            bytes_per_s: before.zip(self.carried).and_then(|(before, now)| rate(before, now)),
        })
    }
}

/// Links that a card has, up or not.
pub(super) fn links(device: &Device<'_>) -> u32 {
    let told = raw::field(device, Field::LINKS).ok();
    let told = told.and_then(|links| u32::try_from(links).ok());
    told.unwrap_or(LINKS_UNTOLD).min(MOST_LINKS)
}

/// Those of its links that are up.
pub(super) fn active_links(device: &Device<'_>, links: u32) -> impl Iterator<Item = u32> {
    (0..links).filter(|link| matches!(device.link_wrapper_for(*link).is_active(), Ok(true)))
}

/// What these links have carried, both ways, bytes: link by link, or all in one number where only that is told.
fn carried(device: &Device<'_>, active: &[u32]) -> Result<u64, NvmlError> {
    let links = active.iter().copied().chain([Field::ALL_LINKS]);
    let fields: Vec<Field> = links.flat_map(Field::link_data).collect();
    let mut each = raw::fields(device, &fields)?;
    let all = each.split_off(each.len().saturating_sub(2));
    total(each).or_else(|error| total(all).map_err(|_| error))
}

/// KiB together, as bytes; the first error instead.
fn total(answers: Vec<Result<i64, NvmlError>>) -> Result<u64, NvmlError> {
    if answers.is_empty() {
        return Err(NvmlError::NoData);
    }
    answers.into_iter().try_fold(0_u64, |sum, kib| {
        let kib = u64::try_from(kib?).unwrap_or(0);
        Ok(sum.saturating_add(kib.saturating_mul(KIB)))
    })
}

/// Per second; nothing when the counter went back, as when a link came or went.
fn rate(before: (Instant, u64), now: (Instant, u64)) -> Option<u64> {
    let seconds = now.0.saturating_duration_since(before.0).as_secs_f64();
    let bytes = now.1.checked_sub(before.1)?;
    (seconds > 0.0).then(|| (bytes as f64 / seconds) as u64)
}

/// Where the card slows itself down, °C. Of Ada and newer the driver tells it only as a margin to the present temperature.
fn slowdown(device: &Device<'_>) -> Result<f64, NvmlError> {
    let told = device.temperature_threshold(TemperatureThreshold::Slowdown);
    told.map(f64::from).or_else(|refused| by_margin(device).ok_or(refused))
}

fn by_margin(device: &Device<'_>) -> Option<f64> {
    let now = device.temperature(TemperatureSensor::Gpu).ok()?;
    let margin = raw::margin_c(device).ok()?;
    let at = raw::field(device, Field::SLOWDOWN_MARGIN).ok()?;
    Some(f64::from(now) + f64::from(margin) - f64::from(i32::try_from(at).ok()?))
}

fn pcie(device: &Device<'_>, refusals: &mut Refusals) -> Option<PcieReading> {
    let small = |number: u32| u8::try_from(number).ok();
    let bytes = |kib: u32| u64::from(kib) * KIB;
    let generation = refusals.ok("gpu.pcie.generation", device.current_pcie_link_gen());
    let width = refusals.ok("gpu.pcie.width", device.current_pcie_link_width());
    let received = device.pcie_throughput(PcieUtilCounter::Receive);
    let sent = device.pcie_throughput(PcieUtilCounter::Send);
    let reading = PcieReading {
        generation: generation.and_then(small),
        width: width.and_then(small),
        rx_bytes_per_s: refusals.ok("gpu.pcie.rx_bytes_per_s", received).map(bytes),
        tx_bytes_per_s: refusals.ok("gpu.pcie.tx_bytes_per_s", sent).map(bytes),
    };
    Some(reading).filter(|reading| *reading != PcieReading::default())
}

fn ecc(device: &Device<'_>, refusals: &mut Refusals) -> Option<EccReading> {
    let count = |error| device.total_ecc_errors(error, EccCounter::Volatile);
    let uncorrectable = refusals.ok("gpu.ecc.uncorrectable_volatile", count(MemoryError::Uncorrected));
    let corrected = refusals.ok("gpu.ecc.corrected", count(MemoryError::Corrected));
    let rows = refusals.ok("gpu.ecc.remap_pending", raw::remapped_rows(device));
    let is_told = uncorrectable.is_some() || corrected.is_some() || rows.is_some();
    is_told.then(|| EccReading {
        uncorrectable_volatile: uncorrectable.unwrap_or(0),
        corrected: corrected.unwrap_or(0),
        remap_pending: rows.is_some_and(|rows| rows.pending),
        remap_failed: rows.is_some_and(|rows| rows.failed),
    })
}

/// NVML's flags as words.
fn words(reasons: ThrottleReasons) -> Vec<String> {
    let names = [
        (ThrottleReasons::GPU_IDLE, "gpu_idle"),
        (ThrottleReasons::SW_POWER_CAP, "sw_power_cap"),
        (ThrottleReasons::HW_SLOWDOWN, "hw_slowdown"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "sw_thermal_slowdown"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hw_thermal_slowdown"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "hw_power_brake_slowdown"),
    ];
    let set = names.iter().filter(|(flag, _)| reasons.contains(*flag));
    set.map(|(_, word)| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn throttle_reasons_are_told_in_nvmls_words() {
        let reasons = ThrottleReasons::SW_POWER_CAP | ThrottleReasons::HW_THERMAL_SLOWDOWN;
        assert_eq!(words(reasons), ["sw_power_cap", "hw_thermal_slowdown"]);
    }

    #[test]
    fn a_counter_becomes_a_rate_unless_it_went_back() {
        let begun = Instant::now();
        let later = begun + Duration::from_secs(2);
        assert_eq!(rate((begun, 1000), (later, 5000)), Some(2000));
        assert_eq!(rate((begun, 5000), (later, 1000)), None);
        assert_eq!(rate((begun, 0), (begun, 1)), None);
    }

    #[test]
    fn links_are_summed_in_bytes_and_one_that_is_not_told_spoils_the_sum() {
        assert_eq!(total(vec![Ok(1), Ok(2)]).unwrap(), 3 * 1024);
        assert!(matches!(
            total(vec![Ok(1), Err(NvmlError::NotSupported)]),
            Err(NvmlError::NotSupported)
        ));
        assert!(total(Vec::new()).is_err());
    }
}
