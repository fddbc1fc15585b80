use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::arch::lora::{Factor, LoraKey, LoraTensors, Matrix, Target};
use crate::store::adapter::{MANIFEST_FILE, WEIGHTS_FILE};
use crate::store::{AdapterConfig, AdapterManifest, AdapterShape, read_peft, write_peft};

const BASE: &str = "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9";
const OTHER_BASE: &str = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";

/// A model of one block with 4 values, of which q can be adapted.
fn base() -> BaseModel {
    let dims = [(Target::Q, (4, 4))].into();
    let shape =
        AdapterShape { layers: 1, heads: 2, kv_heads: 2, head_dim: 2, permuted_qk: true, dims };
    BaseModel { architecture: "llama", shape }
}

/// Writes a candidate as training does; `weight` tells one from another.
fn candidate(dir: &Path, weight: f32) {
    let config = AdapterConfig {
        r: 1,
        lora_alpha: 2.0,
        target_modules: vec![Target::Q],
        base_model_name_or_path: None,
    };
    let key = |factor| LoraKey { layer: 0, target: Target::Q, factor };
    let tensors = LoraTensors::from([
        (key(Factor::A), Matrix { rows: 1, cols: 4, data: vec![weight; 4] }),
        (key(Factor::B), Matrix { rows: 4, cols: 1, data: vec![1.0, 2.0, 3.0, weight] }),
    ]);
    write_peft(dir, &config, &tensors, &base().shape).unwrap();
    AdapterManifest::new(BASE, "tiny").write(dir).unwrap();
}

/// A folder of versions and one for candidates.
struct House {
    temp: TempDir,
}

impl House {
    /// In memory where there is such a place: these tests sync thousands of times.
    fn new() -> Self {
        let in_memory = tempfile::tempdir_in("/dev/shm");
        Self { temp: in_memory.or_else(|_| tempfile::tempdir()).unwrap() }
    }

    fn dir(&self) -> std::path::PathBuf {
        self.temp.path().join("adapters")
    }

    fn open(&self) -> Versions {
        Versions::open(&self.dir(), VersionSettings::default()).unwrap()
    }

    fn publish(
        &self,
        versions: &mut Versions,
        weight: f32,
        parent: Option<VersionId>,
    ) -> Result<Version, VersionError> {
        let from = self.temp.path().join("candidate");
        candidate(&from, weight);
        let meta = VersionMeta {
            base_sha256: BASE.into(),
            base_name: "tiny".into(),
            parent,
            unix_s: 1_700_000_000,
            metrics: json!({ "accuracy_gain": 0.1 + 0.2, "questions": 64 }),
        };
        versions.publish(&from, meta, |peft, out| write_gguf(&base(), peft, out))
    }

    /// Publishes and activates a child of the active version.
    fn promote(&self, versions: &mut Versions, weight: f32) -> VersionId {
        let parent = versions.active().unwrap();
        let id = self.publish(versions, weight, parent).unwrap().id;
        versions.activate(id).unwrap();
        id
    }

    fn file(&self, id: VersionId, name: &str) -> std::path::PathBuf {
        self.dir().join(id.to_string()).join(name)
    }
}

fn numbers(versions: &Versions) -> Vec<u32> {
    versions.list().unwrap().versions.iter().map(|v| v.id.number()).collect()
}

#[test]
fn a_promoted_candidate_is_what_training_wrote_and_what_llama_cpp_loads() {
    let house = House::new();
    let mut versions = house.open();
    assert_eq!(versions.current().unwrap(), None);

    let id = house.promote(&mut versions, 0.5);

    let link = fs::read_link(house.dir().join(CURRENT)).unwrap();
    assert_eq!(link, Path::new(&id.to_string()), "relative, so that the folder can be moved");
    let current = versions.current().unwrap().unwrap();
    assert_eq!((current.id.number(), current.manifest.parent), (1, None));
    assert_eq!(current.manifest.metrics["accuracy_gain"], 0.1 + 0.2);
    let shape = base().shape;
    let (_, trained) = read_peft(&house.temp.path().join("candidate"), &shape).unwrap();
    let (config, served) = read_peft(&house.dir().join(CURRENT), &shape).unwrap();
    assert_eq!((served, config.lora_alpha), (trained, 2.0));
    assert!(AdapterManifest::check(&current.path, BASE).unwrap().is_some());
    let gguf = fs::read(current.gguf()).unwrap();
    assert!(gguf.starts_with(b"GGUF"));
    assert_eq!(current_of(&house.dir()).unwrap(), Some(current));
}

#[test]
fn a_model_s_header_is_enough_to_publish_for_it() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf");

    let base = BaseModel::open(&model).unwrap();

    assert_eq!(base.architecture, "llama");
    assert!(base.shape.layers > 0 && base.shape.dims.len() == Target::ALL.len());
    assert!(BaseModel::open(Path::new("absent.gguf")).is_err());
}

#[test]
fn the_same_candidate_is_published_once() {
    let house = House::new();
    let mut versions = house.open();
    let first = house.publish(&mut versions, 0.5, None).unwrap();

    let again = house.publish(&mut versions, 0.5, None).unwrap();
    let other = house.publish(&mut versions, 0.25, None).unwrap();
    let child = house.publish(&mut versions, 0.5, Some(first.id)).unwrap();

    assert_eq!(again, first);
    assert_eq!((other.id.number(), child.id.number()), (2, 3));
    assert_eq!(child.manifest.parent, Some(first.id));
}

#[test]
fn a_rollback_goes_to_the_parent_and_in_the_end_to_the_base_model() {
    let house = House::new();
    let mut versions = house.open();
    let ids = [0.1, 0.2, 0.3].map(|w| house.promote(&mut versions, w));

    let first = versions.roll_back(ids[2], "fresh tasks got worse", 1_700_000_100).unwrap();
    let again = versions.roll_back(ids[2], "asked twice", 1_700_000_200).unwrap();

    assert_eq!(first, RolledBack { from: ids[2], to: Some(ids[1]) });
    assert_eq!(again, first);
    let mark = versions.get(ids[2]).unwrap().rolled_back.unwrap();
    let expected = Mark { unix_s: 1_700_000_100, reason: "fresh tasks got worse".into() };
    assert_eq!(mark, expected);

    // One that is not active is only marked, and skipped from then on.
    let idle = versions.roll_back(ids[0], "by hand", 0).unwrap();
    assert_eq!(idle, RolledBack { from: ids[0], to: Some(ids[1]) });
    let last = versions.roll_back(ids[1], "worse too", 0).unwrap();

    assert_eq!(last, RolledBack { from: ids[1], to: None });
    assert!(!house.dir().join(CURRENT).exists());
    assert_eq!(versions.current().unwrap(), None);
}

#[test]
fn what_was_rolled_back_is_not_taken_again() {
    let house = House::new();
    let mut versions = house.open();
    let first = house.promote(&mut versions, 0.5);
    let id = house.promote(&mut versions, 0.75);
    versions.roll_back(id, "worse", 0).unwrap();

    let same = house.publish(&mut versions, 0.75, Some(first)).unwrap();

    assert_eq!(same.id, id);
    assert!(same.rolled_back.is_some());
    let refused = versions.activate(id).unwrap_err();
    assert!(matches!(refused, VersionError::RolledBack { .. }), "{refused}");
    let child = house.publish(&mut versions, 0.9, Some(id)).unwrap_err();
    assert!(matches!(child, VersionError::RolledBack { .. }), "{child}");
    versions.reinstate(id).unwrap();
    versions.activate(id).unwrap();
    assert_eq!(versions.active().unwrap(), Some(id));
}

#[test]
fn a_candidate_for_another_model_is_refused() {
    let house = House::new();
    let mut versions = house.open();
    let id = house.promote(&mut versions, 0.5);
    let from = house.temp.path().join("candidate");
    let meta = |base: &str, parent| VersionMeta {
        base_sha256: base.into(),
        base_name: "tiny".into(),
        parent,
        unix_s: 0,
        metrics: json!({}),
    };

    let wrong = versions.publish(&from, meta(OTHER_BASE, None), |_, _| Ok(())).unwrap_err();
    AdapterManifest::new(OTHER_BASE, "other").write(&from).unwrap();
    let parent = versions.publish(&from, meta(OTHER_BASE, Some(id)), |_, _| Ok(())).unwrap_err();

    assert!(matches!(wrong, VersionError::Store(StoreError::OtherModel { .. })), "{wrong}");
    assert!(matches!(parent, VersionError::OtherBase { .. }), "{parent}");
    assert_eq!(numbers(&versions), [1]);
}

#[test]
fn a_candidate_that_is_not_finite_is_refused_and_leaves_nothing() {
    let house = House::new();
    let mut versions = house.open();

    let error = house.publish(&mut versions, f32::NAN, None).unwrap_err();

    assert!(error.to_string().contains("not finite"), "{error}");
    assert_eq!(names_in(&house.dir()).unwrap(), [".lock"]);
}

#[test]
fn a_damaged_version_is_named_and_repaired_by_its_nearest_sound_ancestor() {
    let house = House::new();
    let mut versions = house.open();
    let ids = [0.1, 0.2, 0.3].map(|w| house.promote(&mut versions, w));
    flip(&house.file(ids[2], WEIGHTS_FILE));
    flip(&house.file(ids[1], GGUF_FILE));

    let error = versions.current().unwrap_err();
    let repaired = versions.repair(BASE).unwrap();

    assert!(error.is_damage() && error.to_string().contains(WEIGHTS_FILE), "{error}");
    let Repair::WentBack { broken, why, to } = repaired else { panic!("{repaired:?}") };
    assert_eq!((broken, to), (Some(ids[2]), Some(ids[0])));
    assert!(why.contains(&ids[2].to_string()), "{why}");
    assert_eq!(versions.current().unwrap().unwrap().id, ids[0]);
    assert!(house.dir().join(format!("damaged-{}", ids[2])).is_dir());
    assert_eq!(versions.repair(BASE).unwrap(), Repair::Sound(Some(ids[0])));
}

#[test]
fn without_a_manifest_the_newest_sound_version_for_the_model_serves() {
    let house = House::new();
    let mut versions = house.open();
    let first = house.promote(&mut versions, 0.1);
    let second = house.promote(&mut versions, 0.2);
    fs::write(house.file(second, MANIFEST_FILE), "{").unwrap();

    assert!(
        matches!(versions.repair(BASE).unwrap(), Repair::WentBack { to, .. } if to == Some(first))
    );

    flip(&house.file(first, GGUF_FILE));
    assert!(matches!(versions.repair(BASE).unwrap(), Repair::WentBack { to: None, .. }));
    assert_eq!(versions.current().unwrap(), None);
}

#[test]
fn a_link_to_anything_else_is_damage() {
    for target in ["../elsewhere", "/etc", "00000009-01234567", "."] {
        let house = House::new();
        let mut versions = house.open();
        let id = house.promote(&mut versions, 0.5);
        fs::remove_file(house.dir().join(CURRENT)).unwrap();
        symlink(target, house.dir().join(CURRENT)).unwrap();

        let error = versions.current().unwrap_err();
        let repaired = versions.repair(BASE).unwrap();

        assert!(error.is_damage(), "{target}: {error}");
        let Repair::WentBack { to, .. } = repaired else { panic!("{target}: {repaired:?}") };
        assert_eq!(to, Some(id), "{target}");
    }
    // A folder in the link's place, and a version that is a link to somewhere else.
    let house = House::new();
    let mut versions = house.open();
    let id = house.promote(&mut versions, 0.5);
    fs::remove_file(house.dir().join(CURRENT)).unwrap();
    fs::create_dir(house.dir().join(CURRENT)).unwrap();
    assert!(versions.repair(BASE).is_ok());
    assert_eq!(versions.active().unwrap(), Some(id));
    let moved = house.temp.path().join("moved");
    fs::rename(house.dir().join(id.to_string()), &moved).unwrap();
    symlink(&moved, house.dir().join(id.to_string())).unwrap();
    assert!(versions.current().unwrap_err().is_damage());
    assert!(matches!(versions.repair(BASE).unwrap(), Repair::WentBack { to: None, .. }));
    versions.retain().unwrap();
    assert!(moved.join(WEIGHTS_FILE).exists(), "nothing outside the folder is touched");
}

#[test]
fn readers_get_the_modes_of_the_setting() {
    for (readable_by, folder, file) in [
        (ReadableBy::Owner, 0o700, 0o600),
        (ReadableBy::Group, 0o750, 0o640),
        (ReadableBy::All, 0o755, 0o644),
    ] {
        let house = House::new();
        let settings = VersionSettings { readable_by, ..VersionSettings::default() };
        let mut versions = Versions::open(&house.dir(), settings).unwrap();

        let id = house.promote(&mut versions, 0.5);

        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&house.dir()), folder);
        assert_eq!(mode(&house.dir().join(id.to_string())), folder);
        for name in manifest::FILES.iter().chain(&[MANIFEST_FILE]) {
            assert_eq!(mode(&house.file(id, name)), file, "{name}");
        }
    }
}

#[test]
fn retention_keeps_the_active_one_its_parent_and_the_newest() {
    let house = House::new();
    let settings = VersionSettings { keep_count: 3, ..VersionSettings::default() };
    let mut versions = Versions::open(&house.dir(), settings).unwrap();
    let ids = [0.1, 0.2].map(|w| house.promote(&mut versions, w));
    for weight in [0.3, 0.4, 0.5, 0.6] {
        house.publish(&mut versions, weight, Some(ids[1])).unwrap();
    }

    let removed = versions.retain().unwrap();

    assert_eq!(removed.iter().map(|id| id.number()).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(numbers(&versions), [1, 2, 6]);
    assert_eq!(versions.current().unwrap().unwrap().id, ids[1]);
    assert_eq!(house.publish(&mut versions, 0.7, None).unwrap().id.number(), 7);
}

#[test]
fn a_second_writer_is_told_to_wait() {
    let house = House::new();
    let _held = house.open();

    let error = Versions::open(&house.dir(), VersionSettings::default()).unwrap_err();

    assert!(matches!(error, VersionError::Store(StoreError::Busy { .. })), "{error}");
}

/// Two promotions, a rollback, retention and a third promotion, as a driver that starts over does
/// them: each step is told what it wants, not what to do.
fn history(house: &House, steps: Option<usize>) -> Result<Vec<u32>, VersionError> {
    let settings = VersionSettings { keep_count: 3, ..VersionSettings::default() };
    let mut versions = Versions::open(&house.dir(), settings)?;
    versions.disk.steps_left.set(steps);
    let first = house.publish(&mut versions, 0.1, None)?;
    if versions.active()?.is_none() && first.rolled_back.is_none() {
        versions.activate(first.id)?;
    }
    for weight in [0.2, 0.3, 0.4] {
        let version = house.publish(&mut versions, weight, Some(first.id))?;
        if version.rolled_back.is_none() {
            versions.activate(version.id)?;
            versions.roll_back(version.id, "worse", 7)?;
        }
    }
    let last = house.publish(&mut versions, 0.5, Some(first.id))?;
    versions.activate(last.id)?;
    versions.retain()?;
    let current = versions.current()?.map(|v| v.manifest.parent);
    assert_eq!(current, Some(Some(first.id)));
    Ok(numbers(&versions))
}

#[test]
fn killed_after_any_step_current_is_valid_or_absent_and_the_work_goes_on() {
    let mut kills = 0;
    for steps in 0.. {
        let house = House::new();
        if history(&house, Some(steps)).is_ok() {
            break;
        }
        kills += 1;

        // A reader at this instant, before anything is cleared.
        let seen = current_of(&house.dir()).unwrap();
        assert!(seen.is_none_or(|version| read_peft(&version.path, &base().shape).is_ok()));

        let left = history(&house, None).unwrap();
        assert_eq!(left.len(), 3, "after {steps} steps");
        let names = names_in(&house.dir()).unwrap();
        let rubbish = |name: &&String| name.starts_with('.') && *name != ".lock";
        assert_eq!(names.iter().filter(rubbish).count(), 0, "{names:?}");
    }
    assert!(kills > 60, "{kills}");
}

#[test]
fn a_rollback_killed_before_the_link_moved_is_completed_on_opening() {
    let house = House::new();
    let mut versions = house.open();
    let first = house.promote(&mut versions, 0.1);
    let second = house.promote(&mut versions, 0.2);
    versions.disk.steps_left.set(Some(1)); // the mark, but not the link

    assert!(versions.roll_back(second, "worse", 0).is_err());
    assert_eq!(versions.active().unwrap(), Some(second));
    drop(versions);
    let mut versions = house.open();

    assert_eq!(versions.active().unwrap(), Some(first));
    let again = versions.roll_back(second, "worse", 0).unwrap();
    assert_eq!(again, RolledBack { from: second, to: Some(first) }, "and not one further");
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(path, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_folder_that_somebody_tampered_with_never_panics_and_never_serves(
        file in 0usize..5,
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in prop::bool::weighted(0.3),
    ) {
        let house = House::new();
        let mut versions = house.open();
        let first = house.promote(&mut versions, 0.1);
        let second = house.promote(&mut versions, 0.2);
        let names = [manifest::FILES.as_slice(), &[MANIFEST_FILE]].concat();
        let path = match names.get(file) {
            Some(name) => house.file(second, name),
            None => house.file(second, "extra"),
        };
        let good = fs::read(&path).unwrap_or_else(|_| b"x".to_vec());
        let mut bytes = good.clone();
        let at = at.index(bytes.len());
        bytes[at] = value;
        if cut {
            bytes.truncate(at);
        }
        fs::write(&path, &bytes).unwrap();
        drop(versions);

        let mut versions = house.open();
        let _ = versions.list().unwrap();
        let before = versions.current();
        // White space in a manifest means nothing; everything else is noticed.
        let same = bytes == good || file == 4 || (file == 3 && before.is_ok());
        prop_assert_eq!(before.is_ok(), same);
        let repaired = versions.repair(BASE).unwrap();
        let serving = versions.current().unwrap().unwrap();
        prop_assert_eq!(serving.id, if same { second } else { first }, "{:?}", repaired);
        if file == 3 && same {
            prop_assert_eq!(serving.manifest.metrics["questions"].as_u64(), Some(64));
        }
        versions.retain().unwrap();
    }
}
