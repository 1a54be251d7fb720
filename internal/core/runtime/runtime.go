// Package runtime is the contract between the engine and the processes that run containers.
//
// One shim process owns one container: it starts the OCI runtime, holds the container's stdio, writes its log, serves
// attach clients and records the exit status. A shim outlives the daemon; after a restart the engine adopts it.
//
// Life cycle of one run of a container:
//
//	p, err := rt.Spawn(ctx, launch)   // shim process up, sockets open, container not yet running
//	s, err := p.Attach(ctx, opts)     // clients that must see output from the first byte attach here
//	err = p.Start(ctx)                // the OCI runtime creates and starts the container
//	exit, err := p.Wait(ctx)          // any number of waiters
//	err = rt.Cleanup(ctx, launch)     // idempotent: bundle, cgroup, runtime state, sockets
package runtime

import (
	"context"
	"io"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Runtime starts and finds shims. Implemented by driver/shimclient.
type Runtime interface {
	// Spawn starts a shim for the launch. The container does not run before Process.Start.
	// A shim that is already there for this ID is ErrAlreadyExists.
	Spawn(ctx context.Context, l Launch) (Process, error)
	// Adopt reconnects to the shim of a run that an earlier daemon spawned in l.Dir. When that shim is gone it answers
	// ErrNotFound; Adopted.Exit is then set if the shim recorded the exit before it went.
	Adopt(ctx context.Context, l Launch) (Adopted, error)
	// Cleanup removes what a run left behind: live processes of the container, runtime state, cgroup, bundle, sockets.
	// It is idempotent and works without a shim.
	Cleanup(ctx context.Context, l Launch) error
	// Checkpoint writes the state of a running container to the directory image, by the OCI runtime and CRIU; the container
	// goes on, or ends with exit.
	Checkpoint(ctx context.Context, l Launch, image string, exit bool) error
	// Update changes the limits of a running container by the OCI runtime, which tells systemd where that made the group.
	Update(ctx context.Context, l Launch, r *specs.LinuxResources) error
}

// Adopted is what was found of an earlier run.
type Adopted struct {
	// Process is set while the shim lives (the container may have ended already: Wait then returns at once).
	Process Process
	// Exit is the recorded end when the shim is gone; nil when nothing was recorded (the shim was killed).
	Exit *Exit
}

// Launch is everything a shim needs; it is stored in Dir as JSON so that a later daemon can adopt or clean.
type Launch struct {
	// ID of the container, 64 hex digits.
	ID string
	// Dir is the run directory (bundle, sockets, exit record), below the daemon's exec root; made by Spawn.
	Dir string
	// Runtime is the OCI runtime to use.
	Runtime Binary
	// Spec is the OCI runtime specification; Root.Path is an absolute mounted root filesystem.
	Spec *specs.Spec
	// CgroupDirs are absolute cgroup directories made by the engine (one per v1 hierarchy, or the v2 one) that the shim
	// enters just before it starts the OCI runtime. Empty when the OCI runtime makes the cgroup from Spec.Linux.CgroupsPath.
	CgroupDirs []string
	// StdioUID and StdioGID own the pipes of the container's stdio: its root user, on the host.
	StdioUID, StdioGID int
	// Terminal, Stdin, StdinOnce mean what docker's Tty, OpenStdin and StdinOnce mean.
	Terminal, Stdin, StdinOnce bool
	// ConsoleHeight and ConsoleWidth are the first terminal size in cells; 0 leaves the kernel's default.
	ConsoleHeight, ConsoleWidth uint
	// Log says where and how the shim writes output.
	Log LogSink
	// Restore is the directory of a checkpoint that the container begins from; empty begins anew.
	Restore string
	// StopSignal for reference of tools that look at the run directory.
	StopSignal unix.Signal
}

// Binary is an OCI runtime command line.
type Binary struct {
	Name string   // as in HostConfig.Runtime: "crun", "runc", …
	Path string   // absolute
	Args []string // global arguments before the sub command
	// Root is the runtime's state directory (--root).
	Root string
	// NoCgroup: run with the cgroup manager disabled; the engine made CgroupDirs.
	NoCgroup bool
	// HideMounts are host mount points that the runtime's create must not see (crun refuses a hybrid hierarchy whose v2
	// mount owns a controller). The shim forks "create" from a locked thread that has unshared its mount namespace, made
	// each path's parent private and lazily unmounted the path; the thread then ends. No other sub command needs it.
	HideMounts []string
}

// LogSink configures the log file that the shim writes.
type LogSink struct {
	// Driver is "json-file", "local" or "none".
	Driver string
	// Path of the active file; rotated files are Path.1, Path.2 … (".gz" when Compress).
	Path string
	// MaxSize in bytes (0: unlimited) and MaxFiles (at least 1) bound rotation.
	MaxSize  int64
	MaxFiles int
	Compress bool
	// Attrs are the extra attributes (labels, env, tag options) stored with each json-file line; may be nil.
	Attrs map[string]string
}

// Exit is how a container or exec process ended.
type Exit struct {
	Code      int       // 0–255; 128+n for signal n
	At        time.Time // when the shim reaped it
	OOMKilled bool
	// Error explains an abnormal end, for example that the shim was killed; empty otherwise.
	Error string
}

// Process is one run of a container, owned by a live shim. Safe for concurrent use.
type Process interface {
	// Start creates and starts the container. A failure to run the command is a *StartError.
	Start(ctx context.Context) error
	// PID of the container's init in the host's pid namespace; 0 before Start.
	PID() int
	// Wait blocks until the container ended or ctx is done. A shim that vanished gives Exit{Code: 255, Error: …} or 137.
	Wait(ctx context.Context) (Exit, error)
	// Signal sends sig to the container's init. ErrNotFound when it has ended.
	Signal(ctx context.Context, sig unix.Signal) error
	// Attach opens a stream to the container's stdio; allowed before Start.
	Attach(ctx context.Context, o AttachOptions) (Stream, error)
	// Resize sets the terminal size in cells.
	Resize(ctx context.Context, height, width uint) error
	// Exec runs one more process inside the container; the process is started when Exec returns.
	Exec(ctx context.Context, e ExecLaunch) (Exec, error)
}

// Checker is a Process that runs health checks at less cost than execs.
type Checker interface {
	// Check runs a command to its end. ErrNotImplemented: this one has to be an exec, and nothing of it has counted. When ctx
	// ends, the command is killed.
	Check(ctx context.Context, l CheckLaunch) (Checked, error)
}

// CheckLaunch describes a health check.
type CheckLaunch struct {
	// Process is the same pointer for all checks of a run, and not changed.
	Process *specs.Process
	// Timeout kills the command.
	Timeout time.Duration
}

// Checked is how a health check ended.
type Checked struct {
	Code   int    // 0–255; 128+n for signal n
	Late   bool   // it was killed after its time; Code says nothing
	Output string // the first 4 KB of both streams
	More   bool   // there was more
}

// AttachOptions selects streams. Output is framed as docker's stdcopy (8-byte header) unless the terminal is on.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
}

// Stream is an attached client's end. Read yields output, Write feeds stdin, CloseWrite half-closes stdin.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// ExecLaunch describes an exec.
type ExecLaunch struct {
	ID                          string // 64 hex digits
	Process                     *specs.Process
	Terminal                    bool
	Stdin, Stdout, Stderr       bool // streams that a client will use; others are /dev/null (stdin) or discarded
	ConsoleHeight, ConsoleWidth uint
}

// Exec is a running exec process.
type Exec interface {
	PID() int
	// Stream is the stdio, framed as in AttachOptions; nil when no stream was asked for.
	Stream() Stream
	Wait(ctx context.Context) (Exit, error)
	Resize(ctx context.Context, height, width uint) error
	Signal(ctx context.Context, sig unix.Signal) error
}

// StartError is a container or exec command that could not be run, with docker's exit code for it: 126 (found but not
// executable), 127 (not found), 128 (other runtime failures).
type StartError struct {
	Code    int
	Message string // the OCI runtime's own words
}

func (e *StartError) Error() string { return e.Message }
