use proptest::prelude::*;

use super::*;
use crate::window::SLOT;

fn key(model: &str) -> Key {
    Key {
        model: model.to_owned(),
        version: "1".to_owned(),
        method: MethodClass::Infer,
        size: SizeClass::of_bytes(5000),
        phase: Phase::Total,
    }
}

const NOW: Duration = Duration::from_secs(36_000);

#[test]
fn a_kind_keeps_its_place_and_is_news_once_an_epoch() {
    let mut directory = Directory::default();
    let (place, is_news) = directory.claim(&key("a"), NOW);
    assert!(is_news && !place.is_overflow());
    assert_eq!(directory.claim(&key("a"), NOW), (place, false));
    assert_eq!(directory.claim(&key("a"), NOW + SLOT), (place, true));
    assert_eq!(directory.find(&key("a")), Some(place));
    let gap = Key {
        phase: Phase::Gap,
        ..key("a")
    };
    assert_ne!(directory.claim(&gap, NOW).0, place);
}

#[test]
fn ten_thousand_names_do_not_make_it_larger() {
    let mut directory = Directory::default();
    let mut overflown = 0;
    for number in 0..10_000 {
        let (place, is_news) = directory.claim(&key(&format!("model-{number}")), NOW);
        overflown += usize::from(place.is_overflow() && !is_news);
    }
    assert_eq!(overflown, 10_000 - MAX_KEYS);
    assert!(directory.to_bytes().len() <= MAX_BYTES);
    assert!(
        directory.claim(&key(&"x".repeat(200)), NOW).0.is_overflow(),
        "too long a name"
    );
}

#[test]
fn a_place_that_was_not_used_for_a_window_goes_to_another_kind_under_another_tenure() {
    let mut directory = Directory::default();
    (0..MAX_KEYS).for_each(|number| {
        directory.claim(&key(&format!("model-{number}")), NOW);
    });
    let before = directory.find(&key("model-0")).unwrap();
    assert!(directory.claim(&key("late"), NOW + SLOT * 9).0.is_overflow());
    let (after, _) = directory.claim(&key("late"), NOW + SLOT * 10);
    assert_eq!(after.index, before.index);
    assert_ne!(after.tenure, before.tenure);
    assert_eq!(directory.find(&key("model-0")), None);
}

#[test]
fn entries_from_another_clock_are_free() {
    let mut directory = Directory::default();
    (0..MAX_KEYS).for_each(|number| {
        directory.claim(&key(&format!("model-{number}")), NOW * 2);
    });
    assert!(!directory.claim(&key("now"), NOW).0.is_overflow());
}

proptest! {
    #[test]
    fn it_is_read_as_it_was_written(models in proptest::collection::vec("\\PC{0,60}", 0..150)) {
        let mut directory = Directory::default();
        models.iter().for_each(|model| { directory.claim(&key(model), NOW); });
        let bytes = directory.to_bytes();
        prop_assert!(bytes.len() <= MAX_BYTES);
        prop_assert_eq!(Directory::from_bytes(&bytes), directory);
    }

    #[test]
    fn foreign_bytes_are_a_directory_that_works(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Some(form) = bytes.first_mut() {
            *form = 1;
        }
        let mut directory = Directory::from_bytes(&bytes);
        let (place, _) = directory.claim(&key("a"), NOW);
        prop_assert_eq!(directory.find(&key("a")), Some(place));
    }
}
