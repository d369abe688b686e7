//! What blocks, on a thread beside the daemon's one.

use std::sync::{Arc, Mutex};
use tokio::task::{JoinHandle, spawn_blocking};

/// Runs `work` there. `None`: that thread ended early, since the daemon is being stopped.
pub async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let end = Arc::new(Mutex::new(None));
    let into = end.clone();
    let work = move || {
        let done = work();
        if let Ok(mut into) = into.lock() {
            *into = Some(done);
        }
    };
    begin(Box::new(work)).await.ok()?;
    end.lock().ok()?.take()
}

/// One type of task, whatever it does: each more takes kilobytes of the program.
fn begin(work: Box<dyn FnOnce() + Send>) -> JoinHandle<()> {
    spawn_blocking(work)
}
