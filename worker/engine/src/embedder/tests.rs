use super::*;
use crate::{
    backend::{
        bert,
        device::{DeviceChoice, select},
    },
    pack,
    repository::{Repository, VersionId, manifest::WeightType},
    tiny_bert,
};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Gives each sequence the vector `[first id, length]`. Computes only when told to, and tells when it starts.
struct Gated {
    started: Sender<usize>,
    go: Receiver<Result<(), &'static str>>,
}

impl EmbeddingBackend for Gated {
    fn device(&self) -> DeviceKind {
        DeviceKind::Cpu
    }

    fn dimension(&self) -> usize {
        2
    }

    fn embed(&mut self, batch: &TokenBatch) -> Result<Embeddings, BackendError> {
        self.started.send(batch.rows()).unwrap();
        if let Err(reason) = self.go.recv().unwrap() {
            assert_ne!(reason, "panic", "as the test wants");
            return Err(BackendError(reason.to_owned()));
        }
        let values = batch
            .ids()
            .chunks(batch.width())
            .zip(batch.mask().chunks(batch.width()))
            .flat_map(|(ids, mask)| [ids[0] as f32, mask.iter().sum::<u32>() as f32])
            .collect();
        Ok(Embeddings { values, dimension: 2 })
    }
}

struct Gate {
    embedder: Embedder,
    started: Receiver<usize>,
    go: Sender<Result<(), &'static str>>,
}

fn tokenizer() -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    tiny_bert::write(folder.path(), 1).unwrap();
    Tokenizer::parse(
        &std::fs::read(folder.path().join("tokenizer.json")).unwrap(),
        tiny_bert::MAX_TOKENS,
    )
    .unwrap()
}

fn gate(max_queue: usize) -> Gate {
    let (started_tx, started) = channel();
    let (go, go_rx) = channel();
    let options = Options {
        max_queue,
        budget: Budget {
            padded_tokens: 64,
            rows: 8,
        },
    };
    let backend = Gated {
        started: started_tx,
        go: go_rx,
    };
    let embedder = Embedder::start(backend, tokenizer(), options, Arc::new(|_| ())).unwrap();
    Gate { embedder, started, go }
}

fn sequences(rows: impl IntoIterator<Item = (u32, usize)>) -> Vec<TokenSequence> {
    rows.into_iter()
        .map(|(id, length)| TokenSequence {
            ids: vec![id; length],
            truncated: false,
        })
        .collect()
}

fn wait(pending: Pending) -> Result<Embeddings, EmbedError> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(pending)
}

#[test]
fn what_queues_up_while_the_backend_is_busy_is_computed_together() {
    let gate = gate(100);
    let first = gate.embedder.submit(sequences([(1, 3)]), None).unwrap();
    assert_eq!(gate.started.recv().unwrap(), 1);
    let second = gate.embedder.submit(sequences([(2, 3), (3, 4)]), None).unwrap();
    let third = gate.embedder.submit(sequences([(4, 5)]), None).unwrap();
    gate.go.send(Ok(())).unwrap();
    assert_eq!(gate.started.recv().unwrap(), 3);
    gate.go.send(Ok(())).unwrap();

    assert_eq!(wait(first).unwrap().values, [1.0, 3.0]);
    assert_eq!(wait(second).unwrap().values, [2.0, 3.0, 3.0, 4.0]);
    assert_eq!(wait(third).unwrap().values, [4.0, 5.0]);
}

#[test]
fn a_request_larger_than_a_batch_is_answered_whole_and_in_order() {
    let gate = gate(100);
    let pending = gate
        .embedder
        .submit(sequences((0..20).map(|id| (id, 4))), None)
        .unwrap();
    for rows in [8, 8, 4] {
        assert_eq!(gate.started.recv().unwrap(), rows);
        gate.go.send(Ok(())).unwrap();
    }
    let expected: Vec<_> = (0..20).flat_map(|id| [id as f32, 4.0]).collect();
    assert_eq!(wait(pending).unwrap().values, expected);
}

#[test]
fn a_caller_who_left_is_not_computed_for() {
    let gate = gate(100);
    let busy = gate.embedder.submit(sequences([(1, 1)]), None).unwrap();
    gate.started.recv().unwrap();
    drop(gate.embedder.submit(sequences([(2, 1), (3, 1)]), None).unwrap());
    let stays = gate.embedder.submit(sequences([(4, 1)]), None).unwrap();
    gate.go.send(Ok(())).unwrap();
    assert_eq!(gate.started.recv().unwrap(), 1, "only the one who stays");
    gate.go.send(Ok(())).unwrap();
    assert_eq!(wait(stays).unwrap().values, [4.0, 1.0]);
    wait(busy).unwrap();
}

#[test]
fn a_request_past_its_deadline_is_answered_without_being_computed() {
    let gate = gate(100);
    let busy = gate.embedder.submit(sequences([(1, 1)]), None).unwrap();
    gate.started.recv().unwrap();
    let late = gate.embedder.submit(sequences([(2, 1)]), Some(Instant::now())).unwrap();
    gate.go.send(Ok(())).unwrap();
    assert!(matches!(wait(late), Err(EmbedError::DeadlineExceeded)));
    wait(busy).unwrap();
    drop(gate.embedder);
    assert!(gate.started.recv().is_err(), "nothing more was computed");
}

#[test]
fn a_full_queue_refuses_at_once() {
    let gate = gate(2);
    let busy = gate.embedder.submit(sequences([(1, 1)]), None).unwrap();
    gate.started.recv().unwrap();
    let waits = gate.embedder.submit(sequences([(2, 1), (3, 1)]), None).unwrap();
    assert_eq!(gate.embedder.queue_depth(), 2);
    let refused = gate.embedder.submit(sequences([(4, 1)]), None).unwrap_err();
    assert_eq!(
        refused,
        Refused::Overloaded {
            taken: 2,
            capacity: 2,
            asked: 1
        }
    );
    gate.go.send(Ok(())).unwrap();
    gate.go.send(Ok(())).unwrap();
    wait(busy).unwrap();
    wait(waits).unwrap();
}

#[test]
fn places_of_a_caller_who_left_before_submitting_are_free_again() {
    let gate = gate(2);
    let reservation = gate.embedder.reserve(2).unwrap();
    assert!(gate.embedder.submit(sequences([(1, 1)]), None).is_err());
    drop(reservation);
    gate.go.send(Ok(())).unwrap();
    wait(gate.embedder.submit(sequences([(1, 1), (2, 1)]), None).unwrap()).unwrap();
}

#[test]
fn a_failing_or_panicking_backend_costs_its_batch_only() {
    let gate = gate(100);
    for reason in ["out of memory", "panic"] {
        let pending = gate.embedder.submit(sequences([(1, 1)]), None).unwrap();
        gate.go.send(Err(reason)).unwrap();
        assert!(matches!(wait(pending), Err(EmbedError::Backend(_))), "{reason}");
    }
    assert_eq!(gate.embedder.failures_in_a_row(), 2);
    let pending = gate.embedder.submit(sequences([(5, 2)]), None).unwrap();
    gate.go.send(Ok(())).unwrap();
    assert_eq!(wait(pending).unwrap().values, [5.0, 2.0]);
    assert!(gate.embedder.failures_in_a_row() == 0 && !gate.embedder.has_ended());
}

#[test]
fn an_embedder_whose_thread_is_gone_says_so() {
    let batches = Arc::new(|_: &BatchReport| panic!("as the test wants"));
    let (started, _started) = channel();
    let (go, go_rx) = channel();
    let backend = Gated { started, go: go_rx };
    let options = Options::for_device(DeviceKind::Cpu);
    let embedder = Embedder::start(backend, tokenizer(), options, batches).unwrap();
    go.send(Ok(())).unwrap();
    let _pending = embedder.submit(sequences([(1, 1)]), None).unwrap();
    let begun = Instant::now();
    while !embedder.has_ended() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it computes on");
        std::thread::yield_now();
    }
}

#[test]
fn dropping_the_embedder_answers_what_is_queued() {
    let Gate { embedder, started, go } = gate(100);
    let first = embedder.submit(sequences([(1, 1)]), None).unwrap();
    started.recv().unwrap();
    let second = embedder.submit(sequences([(2, 1)]), None).unwrap();
    go.send(Ok(())).unwrap();
    go.send(Ok(())).unwrap();
    drop(embedder);
    assert_eq!(wait(first).unwrap().values, [1.0, 1.0]);
    assert_eq!(wait(second).unwrap().values, [2.0, 1.0]);
}

#[test]
fn concurrent_callers_each_get_their_own_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let (source, repository) = (folder.path().join("source"), folder.path().join("repository"));
    tiny_bert::write(&source, 1).unwrap();
    let id: VersionId = "tiny/v1".parse().unwrap();
    pack::pack(&source, &repository, &id, WeightType::F32).unwrap();
    let version = Repository::new(repository).open(&id).unwrap();
    let device = select(DeviceChoice::Cpu).unwrap();
    let (mut alone, _) = bert::load(&version, &device).unwrap();
    let (backend, tokenizer) = bert::load(&version, &device).unwrap();
    let embedder = Embedder::start(
        backend,
        tokenizer,
        Options::for_device(DeviceKind::Cpu),
        Arc::new(|_| ()),
    )
    .unwrap();

    let texts: Vec<String> = (0..40).map(|n| format!("text number {n}")).collect();
    let answers: Vec<Embeddings> = std::thread::scope(|scope| {
        let callers: Vec<_> = texts
            .iter()
            .map(|text| {
                scope.spawn(|| {
                    let sequence = embedder.tokenize(text).unwrap();
                    wait(embedder.submit(vec![sequence], None).unwrap()).unwrap()
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    for (text, answer) in texts.iter().zip(answers) {
        let sequence = embedder.tokenize(text).unwrap();
        let expected = alone.embed(&TokenBatch::pad([sequence].iter())).unwrap();
        assert!(
            expected
                .values
                .iter()
                .zip(&answer.values)
                .all(|(a, b)| (a - b).abs() < 1e-5),
            "{text}"
        );
    }
}
