//! The Unix socket behind `latrod status`: whoever connects gets one JSON document.
//!
//! Nothing is read from whoever connects, so nothing that they send can do harm.

use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// How long a slow reader may take.
const TIME_LIMIT: Duration = Duration::from_secs(2);
/// How many may be served at once; more are turned away.
const MAX_READERS: usize = 8;
/// The longest document that a client reads.
const MAX_BYTES: u64 = 1 << 20;

/// The daemon's end.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
    readers: Arc<Semaphore>,
    path: PathBuf,
}

impl StatusSocket {
    /// Listens at `path`, which only its owner and group can use. A socket that a killed daemon left
    /// there is replaced; any other file is not.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "not a socket")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        let readers = Arc::new(Semaphore::new(MAX_READERS));
        Ok(Self { listener, readers, path: path.to_owned() })
    }

    /// Waits for somebody who asks. The future may be dropped.
    ///
    /// # Errors
    /// Those of the operating system, such as too many open files.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }

    /// Sends the document in the background, if not too many are being served.
    pub fn answer(&self, mut stream: UnixStream, document: Vec<u8>) {
        let Ok(permit) = Arc::clone(&self.readers).try_acquire_owned() else { return };
        tokio::spawn(async move {
            let send = async {
                stream.write_all(&document).await?;
                stream.shutdown().await
            };
            // Whoever goes away before the end has lost nothing but the answer.
            let _ = tokio::time::timeout(TIME_LIMIT, send).await;
            drop(permit);
        });
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Asks the daemon behind the socket at `path`.
///
/// # Errors
/// Those of the operating system: nobody listens, or no answer comes in time.
pub fn ask(path: &Path) -> io::Result<String> {
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(2 * TIME_LIMIT))?;
    let mut text = String::new();
    stream.take(MAX_BYTES).read_to_string(&mut text)?;
    if text.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no answer"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn everybody_who_asks_gets_the_document() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/latrod.sock");
        drop(StatusSocket::bind(&path).unwrap());
        let socket = StatusSocket::bind(&path).unwrap();
        for _ in 0..3 {
            let asked = path.clone();
            let client = tokio::task::spawn_blocking(move || ask(&asked));
            socket.answer(socket.accept().await.unwrap(), b"{\"state\":\"training\"}".to_vec());

            assert_eq!(client.await.unwrap().unwrap(), "{\"state\":\"training\"}");
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn readers_that_never_read_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latrod.sock");
        let socket = StatusSocket::bind(&path).unwrap();
        let mut silent = Vec::new();
        for _ in 0..MAX_READERS + 5 {
            silent.push(UnixStream::connect(&path).await.unwrap());
            socket.answer(socket.accept().await.unwrap(), vec![b' '; 1 << 22]);
        }

        assert_eq!(socket.readers.available_permits(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_file_that_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latrod.sock");
        std::fs::write(&path, "mine").unwrap();

        assert!(StatusSocket::bind(&path).is_err());
        assert!(ask(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
