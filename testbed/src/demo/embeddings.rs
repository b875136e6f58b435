//! Step 2: a real inference, compared with PyTorch's.

use super::Report;
use crate::client::{Inference, cosine};
use crate::harness::Testbed;
use crate::reference::Reference;
use anyhow::{Context, Result};
use std::time::Instant;

/// all-MiniLM-L6-v2's width.
const DIMENSIONS: usize = 384;
/// How far `v1` (f32) may be from the reference.
const TOLERANCE: f64 = 1e-4;

pub(super) async fn run(testbed: &mut Testbed, report: &mut Report) -> Result<()> {
    let reference = Reference::load(&testbed.install().root)?;
    let client = testbed.client().await?;
    let texts = reference.texts();
    let began = Instant::now();
    let v1 = client.infer(&texts, &[("x-model-version", "v1")]).await?;
    let took = began.elapsed();
    let width = v1.embeddings.first().map_or(0, Vec::len);
    let seen = format!(
        "{} vectors of {width} dims from {} ({}) in {:.1} ms",
        v1.embeddings.len(),
        v1.worker,
        v1.version,
        took.as_secs_f64() * 1e3
    );
    let right = v1.embeddings.len() == texts.len() && width == DIMENSIONS && v1.version == "v1";
    report.check(
        "ModelInfer through Envoy",
        format!("{} vectors of {DIMENSIONS} dims from v1", texts.len()),
        seen,
        right,
    );

    let made_with = format!(
        "PyTorch {}, transformers {}",
        reference.made_with.torch, reference.made_with.transformers
    );
    let v2 = client.infer(&texts, &[("x-model-version", "v2")]).await?;
    for (number, pair) in reference.pairs.iter().enumerate() {
        let here = similarity(&v1, number)?;
        let there = similarity(&v2, number)?;
        let off = (here - pair.cosine).abs();
        let [a, b] = &pair.texts;
        report.check(
            &format!("cosine of {a:?} and {b:?}"),
            format!("{:.6} ({made_with}), within {TOLERANCE}", pair.cosine),
            format!(
                "{here:.6} by v1, off by {off:.1e} (v2, stored as f16: {there:.6}, off by {:.1e})",
                (there - pair.cosine).abs()
            ),
            off <= TOLERANCE,
        );
    }
    Ok(())
}

/// The cosine of the pair whose texts stand side by side in the request.
fn similarity(inference: &Inference, pair: usize) -> Result<f64> {
    let at = |index: usize| inference.embeddings.get(index).context("a vector for every text");
    Ok(cosine(at(2 * pair)?, at(2 * pair + 1)?))
}
