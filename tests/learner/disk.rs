//! Disks that are full or cannot be written to: a sentence, and the run goes on afterwards.
//!
//! The disks are small ones in memory, which takes the rights to mount them; without, these tests
//! say so and pass.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::support::{Train, adapter_bytes, metrics, numbers, text};

/// A disk of two mebibytes, unmounted in the end.
pub struct Disk(TempDir);

impl Disk {
    /// `None`, with a word on standard error, where it cannot be mounted.
    pub fn mount() -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let done = mount(&["-t", "tmpfs", "-o", "size=2m", "tmpfs"], disk.0.path());
        if !done {
            eprintln!("left out: a disk cannot be mounted here");
        }
        done.then_some(disk)
    }

    pub fn folder(&self) -> PathBuf {
        self.0.path().join("adapter")
    }

    /// Fills it but for what holds no second checkpoint while the first is replaced; returns the file
    /// that does.
    pub fn fill(&self) -> PathBuf {
        let filler = self.0.path().join("filler");
        fs::write(&filler, vec![1; 1_000_000]).unwrap();
        filler
    }

    pub fn make_read_only(&self) {
        assert!(mount(&["-o", "remount,ro"], self.0.path()));
    }

    pub fn make_writable(&self) {
        assert!(mount(&["-o", "remount,rw"], self.0.path()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A disk that stays mounted is gone with the machine; there is nothing else to do.
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

fn mount(args: &[&str], place: &Path) -> bool {
    Command::new("mount").args(args).arg(place).output().is_ok_and(|out| out.status.success())
}

#[test]
fn a_full_disk_stops_the_run_and_loses_nothing() {
    let Some(disk) = Disk::mount() else { return };
    let folder = tempfile::tempdir().unwrap();
    Train::quick(folder.path()).run().done();
    let train = Train::quick(&disk.folder());
    train.clone().with("--max-minutes", "0.00001").run().done();
    let filler = disk.fill();

    let full = train.run();
    fs::remove_file(&filler).unwrap();
    let again = train.run().done();

    full.refused(1, &["cannot write", text(&disk.folder()), "free some space there"]);
    assert!(again.contains("\ngoing on after step 1\n"), "{again}");
    assert!(adapter_bytes(&disk.folder()) == adapter_bytes(folder.path()), "the same bits");
    assert_eq!(numbers(&metrics(&disk.folder()), "step"), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn a_disk_full_from_the_start_is_named() {
    let Some(disk) = Disk::mount() else { return };
    let filler = disk.0.path().join("filler");
    let _ = fs::write(&filler, vec![1; 3_000_000]);

    let full = Train::quick(&disk.folder()).run();
    fs::remove_file(&filler).unwrap();

    full.refused(1, &["free some space there"]);
    Train::quick(&disk.folder()).run().done();
}

#[test]
fn a_read_only_disk_is_named() {
    let Some(disk) = Disk::mount() else { return };
    let train = Train::quick(&disk.folder());
    train.run().done();
    let before = adapter_bytes(&disk.folder());
    disk.make_read_only();

    let known = train.run();
    let other = Train::quick(&disk.0.path().join("new")).run();

    let advice = "choose a folder that can be written to";
    known.refused(1, &[advice]);
    other.refused(1, &[advice]);
    disk.make_writable();
    assert!(before == adapter_bytes(&disk.folder()));
    train.run().done();
}
