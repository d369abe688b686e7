//! Programs that people have in apps. A shell in an app is root's: it takes root at the other end of the connection, by the
//! kernel's word, or a daemon that may be believed who asks, which `[local] allow = "owner"` says and nothing else does.

use super::Supervisor;
use super::requests::{failed, no_app_text};
use super::volumes::Fault;
use crate::apps::Phase;
use crate::apps::user::look_up;
use crate::exec::{self, Door};
use crate::health::probe::Target;
use crate::socket;
use coracle_board_support::config::LocalPolicy;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::local::{Answer, Exec};
use coracle_protocol::names::AppName;
use coracle_runtime::{Child, Exit};

/// One that runs, or waits for whoever asked to come.
#[derive(Debug)]
pub(super) struct ExecJob {
    app: AppName,
    child: Child,
}

impl ExecJob {
    pub(super) fn pid(&self) -> i32 {
        self.child.pid
    }

    pub(super) fn ended(self, exit: Exit) {
        let code = exit.shell_code();
        tracing::info!(target: "audit", app = %self.app, keeper = self.child.pid, code, "exec ended");
    }
}

impl Supervisor {
    /// `peer` is who is connected, `uid` who asks by that one's word.
    pub(super) fn exec(&mut self, exec: &Exec, peer: u32, pid: Option<i32>, uid: u32) -> Answer {
        let app = &exec.app;
        let (program, tty) = (exec.args.first(), exec.tty.is_some());
        let allowed = self.may_exec(peer, uid);
        let is_refused = allowed.is_err();
        match allowed.and_then(|()| self.begin_exec(exec, peer)) {
            Ok((socket, keeper)) => {
                tracing::info!(target: "audit", %app, ?program, user = ?exec.user, tty, uid, peer, pid, keeper, "exec");
                Answer::Transfer { socket }
            }
            Err((code, reason)) => {
                tracing::warn!(target: "audit", %app, ?program, uid, peer, pid, code, reason, "no exec");
                match is_refused {
                    true => Answer::Refused {
                        code: code.to_owned(),
                        reason,
                    },
                    false => failed(code, reason),
                }
            }
        }
    }

    fn may_exec(&self, peer: u32, uid: u32) -> Result<(), Fault> {
        if uid != 0 {
            let text = "an app of a release is root's: only root on the board runs programs in it";
            return Err(("not-root", text.to_owned()));
        }
        let allow = match self.settings.config.local_allow {
            LocalPolicy::Owner => return Ok(()),
            LocalPolicy::Signed => "signed",
            LocalPolicy::None => "none",
        };
        if peer == 0 {
            return Ok(());
        }
        let text = format!(
            "[local] allow of coracle.toml is \"{allow}\": through coracled nobody runs programs in apps, which takes \"owner\"; root may use `coracle exec`"
        );
        Err(("not-allowed", text))
    }

    /// Path of its socket, and who stands between.
    fn begin_exec(&mut self, exec: &Exec, peer: u32) -> Result<(String, i32), Fault> {
        exec.check().map_err(|text| ("bad-exec", text))?;
        let Some(run) = self.apps.iter().find(|run| *run.name() == exec.app) else {
            return Err(("no-app", no_app_text(&exec.app)));
        };
        let (Phase::Up, Some(process), Ok(plan)) = (run.phase, &run.process, &run.plan) else {
            let text = format!("app `{}` does not run", exec.app);
            return Err(("not-running", text));
        };
        if run.paused {
            let text = format!("app `{}` is paused: resume it first", exec.app);
            return Err(("paused", text));
        }
        let of_app = self.execs.iter().filter(|job| job.app == exec.app).count();
        for (there, most, whose) in [
            (of_app, LIMITS.execs_per_app, "an app"),
            (self.execs.len(), LIMITS.execs, "all apps"),
        ] {
            if there >= most {
                let text = format!("{there} programs run by exec; the limit of {whose} is {most}");
                return Err(("too-many", text));
            }
        }
        let user = exec.user.as_deref().map(|name| look_up(name, &plan.layers));
        let user = user.transpose().map_err(|e| ("bad-exec", e.to_string()))?;
        let target = Target {
            plan,
            running: &process.running,
            cgroup: &process.cgroup,
        };
        self.transfers += 1;
        let name = format!("exec-{}.sock", self.transfers);
        let path = self.settings.transfers_dir().join(name);
        let own = self.settings.run_state_dir();
        let shown = path.to_string_lossy().into_owned();
        let listener = socket::listen(&path, &own, self.settings.daemon_group())
            .map_err(|e| ("not-started", e.to_string()))?;
        let child = match listener.into_std() {
            Ok(listener) => {
                let door = Door {
                    listener,
                    path: path.clone(),
                    uid: peer,
                };
                exec::start(exec, user.as_ref(), &target, door)
            }
            Err(error) => Err(error.to_string()),
        };
        let child = child.map_err(|text| {
            let _ = std::fs::remove_file(&path);
            ("not-started", text)
        })?;
        let pid = child.pid;
        self.execs.push(ExecJob {
            app: exec.app.clone(),
            child,
        });
        Ok((shown, pid))
    }
}
