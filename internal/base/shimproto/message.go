package shimproto

import "io"

// Inherited descriptors of a shim: the spawning daemon's control connection and the listening socket.
const (
	ControlFD = 3
	ListenFD  = 4
)

// Names of files in the run directory.
const (
	// SocketName is the shim's listening socket.
	SocketName = "shim.sock"
	// ExitName is the exit record: one JSON object {"code","atUnixNano","oomKilled","error"}.
	ExitName = "exit.json"
	// InitPIDName holds the container's init pid, written by the OCI runtime.
	InitPIDName = "init.pid"
	// StateName holds "shim <pid> <start time>\n" and, once the container runs, "init <pid> <start time>\n"; start times
	// are field 22 of /proc/<pid>/stat and tell a process from a later one with the same pid.
	StateName = "shim.state"
	// RuntimeLogName is the OCI runtime's own log in JSON lines.
	RuntimeLogName = "runtime.log"
	// PanicName takes what the shim's Go runtime prints when it dies.
	PanicName = "shim.err"
)

// Config is what a shim needs to know about its container.
type Config struct {
	ID  string
	Dir string
	// Runtime is the OCI runtime's command line up to the sub command, --root included.
	Runtime []string
	// CgroupDirs are entered before the OCI runtime starts.
	CgroupDirs []string
	// HideMounts are mount points that the OCI runtime's run must not see.
	HideMounts []string
	// UID and GID own the pipes of the container's stdio.
	UID, GID int
	// Restore is the directory of a checkpoint that the container begins from; empty begins anew.
	Restore string
	// OOMFiles are candidates of files with an "oom_kill <n>" line; the first readable one counts.
	OOMFiles []string
	Terminal bool
	// Stdin: the container's stdin is a pipe; StdinOnce closes it with the first client's.
	Stdin, StdinOnce bool
	// KillAll: no pid namespace of its own, so everything in CgroupDirs is killed when init ends.
	KillAll       bool
	Height, Width uint16
	LogDriver     string
	LogPath       string
	LogMaxSize    int64
	LogMaxFiles   int
	LogCompress   bool
	// LogAttrs is ready to be put into each line: a JSON object for json-file, protobuf fields for local.
	LogAttrs string
}

// Encode makes the payload of Setup.
func (c *Config) Encode() []byte {
	var w Writer
	w.String(c.ID)
	w.String(c.Dir)
	w.Strings(c.Runtime)
	w.Strings(c.CgroupDirs)
	w.Strings(c.HideMounts)
	w.Strings(c.OOMFiles)
	w.Bool(c.Terminal)
	w.Bool(c.Stdin)
	w.Bool(c.StdinOnce)
	w.Bool(c.KillAll)
	w.Uint(uint64(c.Height))
	w.Uint(uint64(c.Width))
	w.String(c.LogDriver)
	w.String(c.LogPath)
	w.Int(c.LogMaxSize)
	w.Uint(uint64(c.LogMaxFiles))
	w.Bool(c.LogCompress)
	w.String(c.LogAttrs)
	w.Int(int64(c.UID))
	w.Int(int64(c.GID))
	w.String(c.Restore)
	return w
}

// DecodeConfig reads the payload of Setup.
func DecodeConfig(b []byte) (*Config, error) {
	p := Parser{B: b}
	c := &Config{ID: p.String(), Dir: p.String(), Runtime: p.Strings(), CgroupDirs: p.Strings(), HideMounts: p.Strings(), OOMFiles: p.Strings()}
	c.Terminal, c.Stdin, c.StdinOnce, c.KillAll = p.Bool(), p.Bool(), p.Bool(), p.Bool()
	c.Height, c.Width = uint16(p.Uint()), uint16(p.Uint())
	c.LogDriver, c.LogPath = p.String(), p.String()
	c.LogMaxSize, c.LogMaxFiles, c.LogCompress = p.Int(), int(p.Uint()), p.Bool()
	c.LogAttrs = p.String()
	c.UID, c.GID = int(p.Int()), int(p.Int())
	c.Restore = p.String()
	return c, p.Err
}

// Exit is how a process ended.
type Exit struct {
	Code       int
	AtUnixNano int64
	OOMKilled  bool
	Error      string
}

// Put appends the exit to a payload.
func (e Exit) Put(w *Writer) {
	w.Uint(uint64(e.Code))
	w.Int(e.AtUnixNano)
	w.Bool(e.OOMKilled)
	w.String(e.Error)
}

// ParseExit reads an exit.
func ParseExit(p *Parser) Exit {
	return Exit{Code: int(p.Uint()), AtUnixNano: p.Int(), OOMKilled: p.Bool(), Error: p.String()}
}

// Phase of a shim's container.
type Phase byte

// A shim goes through these in order; a failed start leads from Starting to Ended.
const (
	Created Phase = iota
	Starting
	Running
	Ended
)

// State is what Hello tells.
type State struct {
	Phase Phase
	PID   int
	Exit  Exit // of Ended
	// Enters: the shim starts execs that come with a Plan by itself. Shims of older versions do not say it.
	Enters bool
}

// Encode makes the payload of Hello.
func (s State) Encode() []byte {
	w := Writer{byte(s.Phase)}
	w.Uint(uint64(s.PID))
	s.Exit.Put(&w)
	w.Bool(s.Enters)
	return w
}

// DecodeState reads the payload of Hello.
func DecodeState(b []byte) (State, error) {
	if len(b) == 0 {
		return State{}, ErrFrame
	}
	p := Parser{B: b[1:]}
	s := State{Phase: Phase(b[0]), PID: int(p.Uint())}
	s.Exit = ParseExit(&p)
	if len(p.B) > 0 {
		s.Enters = p.Bool()
	}
	return s, p.Err
}

// Status classifies a Reply.
type Status byte

// The failures of requests.
const (
	OK Status = iota
	// Gone: the process has ended or never ran.
	Gone
	// RuntimeFailed: the OCI runtime could not run the command; Text is its log, JSON lines first, then plain text.
	RuntimeFailed
	// Failed: the shim itself could not do it.
	Failed
)

// Answer is what Reply carries.
type Answer struct {
	Status Status
	PID    int
	Text   string
}

// Encode makes the payload of Reply.
func (a Answer) Encode() []byte {
	w := Writer{byte(a.Status)}
	w.Uint(uint64(a.PID))
	w.String(a.Text)
	return w
}

// DecodeAnswer reads the payload of Reply.
func DecodeAnswer(b []byte) (Answer, error) {
	if len(b) == 0 {
		return Answer{}, ErrFrame
	}
	p := Parser{B: b[1:]}
	a := Answer{Status: Status(b[0]), PID: int(p.Uint()), Text: p.String()}
	return a, p.Err
}

// ExecRequest asks for one more process; its OCI process document is in the Plan or, without one, the file ExecFile(ID) in
// the run directory.
type ExecRequest struct {
	ID                    string
	Terminal              bool
	Stdin, Stdout, Stderr bool
	Height, Width         uint16
	// Plan is only for shims that have said Enters, and for execs without a terminal.
	Plan *Plan
}

// HasStream tells whether a stream connection for this exec comes first.
func (e ExecRequest) HasStream() bool { return e.Stdin || e.Stdout || e.Stderr }

// ExecFile is the name of an exec's process document.
func ExecFile(id string) string { return "exec-" + id + ".json" }

// Encode makes the payload of Exec.
func (e ExecRequest) Encode() []byte {
	var w Writer
	w.String(e.ID)
	w.Bool(e.Terminal)
	w.Bool(e.Stdin)
	w.Bool(e.Stdout)
	w.Bool(e.Stderr)
	w.Uint(uint64(e.Height))
	w.Uint(uint64(e.Width))
	if e.Plan != nil {
		e.Plan.put(&w)
	}
	return w
}

// DecodeExec reads the payload of Exec.
func DecodeExec(b []byte) (ExecRequest, error) {
	p := Parser{B: b}
	e := ExecRequest{ID: p.String(), Terminal: p.Bool(), Stdin: p.Bool(), Stdout: p.Bool(), Stderr: p.Bool()}
	e.Height, e.Width = uint16(p.Uint()), uint16(p.Uint())
	if p.Err == nil && len(p.B) > 0 {
		e.Plan = parsePlan(&p)
	}
	return e, p.Err
}

// What a connection is for: the first byte of a Preface.
const (
	ControlConn = 'C'
	AttachConn  = 'A'
	ExecConn    = 'E'
)

// Flags of a stream's Preface.
const (
	WantStdin = 1 << iota
	WantStdout
	WantStderr
)

// Preface is what a connecting client sends first: purpose, flags, length of the exec's ID, the ID.
type Preface struct {
	Purpose byte
	Flags   byte
	ExecID  string
}

// Write sends the preface.
func (p Preface) Write(w io.Writer) error {
	_, err := w.Write(append([]byte{p.Purpose, p.Flags, byte(len(p.ExecID))}, p.ExecID...))
	return err
}

// ReadPreface receives a preface.
func ReadPreface(r io.Reader) (Preface, error) {
	var b [3 + 255]byte
	if _, err := io.ReadFull(r, b[:3]); err != nil {
		return Preface{}, err
	}
	id := b[3 : 3+int(b[2])]
	if _, err := io.ReadFull(r, id); err != nil {
		return Preface{}, err
	}
	return Preface{Purpose: b[0], Flags: b[1], ExecID: string(id)}, nil
}
