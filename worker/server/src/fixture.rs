//! What the tests here share: a configuration, and a model that computes when it is told to.

use crate::{
    config::Config,
    models::{Models, Served},
};
use kilocard_engine::{
    backend::{BackendError, DeviceKind, EmbeddingBackend, Embeddings, TokenBatch, device::DeviceChoice},
    embedder::{Embedder, Options},
    tiny_bert,
    tokenizer::Tokenizer,
};
use kilocard_proto::inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor};
use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A worker on any port that nobody knows of.
pub(crate) fn config(repository: PathBuf) -> Config {
    let any = "127.0.0.1:0".parse().unwrap();
    Config {
        repository,
        models: Vec::new(),
        listen: any,
        admin_listen: any,
        id: "worker-under-test".to_owned(),
        device: DeviceChoice::Cpu,
        max_queue: 4096,
        max_batch_tokens: None,
        endpoints_file: None,
        registration: None,
        drain_delay: Duration::ZERO,
        drain_timeout: Duration::from_secs(30),
    }
}

/// A request of typed texts to `tiny/v1`.
pub(crate) fn typed(texts: &[&str]) -> ModelInferRequest {
    let elements = texts.iter().map(|text| text.as_bytes().to_vec().into()).collect();
    ModelInferRequest {
        model_name: "tiny".to_owned(),
        model_version: "v1".to_owned(),
        id: "request-1".to_owned(),
        inputs: vec![InferInputTensor {
            name: "text".to_owned(),
            datatype: "BYTES".to_owned(),
            shape: vec![texts.len() as i64],
            contents: Some(InferTensorContents {
                bytes_contents: elements,
                ..Default::default()
            }),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// `tiny/v1` behind a gate.
pub(crate) struct Gate {
    /// Lets a batch through; once dropped, all. Dropped before the models, which wait for their batches.
    pub(crate) go: mpsc::Sender<()>,
    /// The rows of each batch that begins.
    pub(crate) started: UnboundedReceiver<usize>,
    pub(crate) models: Arc<Models>,
    /// Makes every batch fail while it is set.
    pub(crate) broken: Arc<AtomicBool>,
}

struct Gated {
    started: UnboundedSender<usize>,
    go: mpsc::Receiver<()>,
    broken: Arc<AtomicBool>,
}

impl EmbeddingBackend for Gated {
    fn device(&self) -> DeviceKind {
        DeviceKind::Cpu
    }

    fn dimension(&self) -> usize {
        1
    }

    /// A text's vector is its length in tokens.
    fn embed(&mut self, batch: &TokenBatch) -> Result<Embeddings, BackendError> {
        let _ = self.started.send(batch.rows());
        let _ = self.go.recv();
        if self.broken.load(Ordering::Relaxed) {
            return Err(BackendError("as the test wants".to_owned()));
        }
        let lengths = batch
            .mask()
            .chunks(batch.width())
            .map(|row| row.iter().sum::<u32>() as f32);
        Ok(Embeddings {
            values: lengths.collect(),
            dimension: 1,
        })
    }
}

pub(crate) fn gate(max_queue: usize) -> Gate {
    let folder = tempfile::tempdir().unwrap();
    tiny_bert::write(folder.path(), 1).unwrap();
    let json = fs::read(folder.path().join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::parse(&json, tiny_bert::MAX_TOKENS).unwrap();
    let (started_sender, started) = unbounded_channel();
    let (go, go_receiver) = mpsc::channel();
    let broken = Arc::new(AtomicBool::new(false));
    let backend = Gated {
        started: started_sender,
        go: go_receiver,
        broken: broken.clone(),
    };
    let mut options = Options::for_device(DeviceKind::Cpu);
    options.max_queue = max_queue;
    let served = Served {
        id: "tiny/v1".parse().unwrap(),
        embedder: Embedder::start(backend, tokenizer, options, Arc::new(|_| ())).unwrap(),
    };
    Gate {
        go,
        started,
        models: Arc::new(Models::of([served])),
        broken,
    }
}

impl Gate {
    /// Waits until this many texts wait behind the gate.
    pub(crate) async fn queued(&self, texts: usize) {
        let depth = || self.models.iter().next().unwrap().embedder.queue_depth();
        let poll = async {
            while depth() != texts {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), poll)
            .await
            .unwrap_or_else(|_| panic!("{} texts wait, and not {texts}", depth()));
    }
}
