package main

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"longshore/cmd/longshore-shim/internal/enter"
	"longshore/cmd/longshore-shim/internal/logwriter"
	"longshore/cmd/longshore-shim/internal/proc"
	"longshore/internal/base/shimproto"
)

// drainTime is how long output may still come after a process has ended, for descendants that keep the pipe open. It is
// docker's.
const drainTime = 2 * time.Second

// warnEvery is how often a daemon is told that the log cannot be written.
const warnEvery = time.Minute

// supervisor owns the container, the connections and the execs of this shim.
type supervisor struct {
	cfg      *shimproto.Config
	reaper   *proc.Reaper
	task     *task         // the container's stdio
	door     *enter.Door   // nil: every exec takes the OCI runtime
	finished chan struct{} // closed when nothing is left to do

	mu       sync.Mutex // guards what follows
	phase    shimproto.Phase
	pid      int
	exit     shimproto.Exit
	stopped  bool // Stop came while the OCI runtime was at work
	controls map[*control]struct{}
	execs    map[string]*execution
	sending  int // events on their way
	warned   time.Time
	done     bool
}

func newSupervisor(cfg *shimproto.Config) *supervisor {
	s := &supervisor{
		cfg:      cfg,
		reaper:   proc.NewReaper(func() int64 { return time.Now().UnixNano() }),
		finished: make(chan struct{}),
		controls: map[*control]struct{}{},
		execs:    map[string]*execution{},
	}
	if enter.Possible() {
		s.door = enter.New(cfg.CgroupDirs)
	}
	s.task = s.newTask(taskConfig{
		terminal: cfg.Terminal, stdin: cfg.Stdin, stdout: true, stderr: true,
		closeStdin: cfg.StdinOnce && !cfg.Terminal, height: cfg.Height, width: cfg.Width,
	})
	return s
}

// run serves until the container has ended and everybody knows.
func (s *supervisor) run(spawner, listener *os.File, children <-chan os.Signal) {
	c := s.addControl(spawner)
	go s.serve(c)
	go s.accept(listener)
	go func() {
		for range children {
			s.reaper.Collect()
		}
	}()
	<-s.finished
	if log := s.task.log; log != nil {
		log.Close() // waits for a compression
	}
	os.Remove(s.cfg.Dir + "/" + shimproto.SocketName)
	os.Exit(0)
}

// settle ends the shim when nothing is left to do: the end is recorded, told to every daemon that is connected, and
// every stream is drained; or nobody is left who could start the container.
func (s *supervisor) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, e := range s.execs {
		if e.claimed && e.over && !e.task.out.Busy() {
			delete(s.execs, id)
		}
	}
	if s.phase == shimproto.Created && len(s.controls) > 0 || s.phase == shimproto.Starting || s.phase == shimproto.Running {
		return
	}
	if s.done || len(s.execs) > 0 || s.sending > 0 || s.task.out.Busy() {
		return
	}
	for c := range s.controls {
		if !c.acked {
			return
		}
	}
	s.done = true
	close(s.finished)
}

// tell sends an event to every daemon; the caller holds the lock and settles afterwards.
func (s *supervisor) tell(f shimproto.Frame) {
	for c := range s.controls {
		s.sending++
		go func() {
			c.send(f)
			s.mu.Lock()
			s.sending--
			s.mu.Unlock()
			s.settle()
		}()
	}
}

// warn tells the daemons that output could not be logged, now and then.
func (s *supervisor) warn(err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.warned) < warnEvery {
		return
	}
	s.warned = time.Now()
	var w shimproto.Writer
	w.String(err.Error())
	s.tell(shimproto.Frame{Kind: shimproto.Warned, Payload: w})
}

// start runs the container; it answers what Reply carries.
func (s *supervisor) start() shimproto.Answer {
	s.mu.Lock()
	if s.phase != shimproto.Created {
		s.mu.Unlock()
		return shimproto.Answer{Status: shimproto.Failed, Text: "container has been started before"}
	}
	s.phase = shimproto.Starting
	s.mu.Unlock()

	pid, text, err := s.launchContainer()
	switch {
	case err != nil:
		go s.fail(err.Error())
		return shimproto.Answer{Status: shimproto.Failed, Text: err.Error()}
	case pid == 0:
		go s.fail(text)
		return shimproto.Answer{Status: shimproto.RuntimeFailed, Text: text}
	}
	return shimproto.Answer{PID: pid}
}

func (s *supervisor) launchContainer() (pid int, text string, err error) {
	cfg := s.cfg
	log, err := logwriter.Open(logwriter.Config{
		Driver: cfg.LogDriver, Path: cfg.LogPath, MaxSize: cfg.LogMaxSize, MaxFiles: cfg.LogMaxFiles,
		Compress: s.compressor(), Attrs: cfg.LogAttrs,
	})
	if err != nil {
		return 0, "", prefixed("failed to initialize logging driver: ", err)
	}
	s.task.oomBase = proc.OOMKills(cfg.OOMFiles)
	s.task.logTo(log)
	release := s.reaper.Hold()
	defer release()
	pidFile := cfg.Dir + "/" + shimproto.InitPIDName
	pid, text, err = s.task.launch(launch{
		logFile: cfg.Dir + "/" + shimproto.RuntimeLogName,
		pidFile: pidFile,
		console: "console.sock",
		args:    begin(cfg, pidFile),
		hide:    cfg.HideMounts,
		id:      cfg.ID,
	})
	if err != nil || pid == 0 {
		return 0, text, err
	}
	s.mu.Lock()
	s.phase, s.pid = shimproto.Running, pid
	stop := s.stopped
	s.mu.Unlock()
	s.reaper.Claim(pid, func(st proc.Status) { go s.ended(st) })
	if stop {
		s.reaper.Signal(pid, syscall.SIGKILL)
	}
	return pid, "", nil
}

// begin is the sub command that starts the container, or continues it from a checkpoint.
func begin(cfg *shimproto.Config, pidFile string) []string {
	common := []string{"--bundle", cfg.Dir, "--pid-file", pidFile, "--detach"}
	if cfg.Restore == "" {
		return append([]string{"run"}, common...)
	}
	return append([]string{"restore", "--image-path", cfg.Restore, "--work-path", cfg.Dir}, common...)
}

// noteState writes what a cleaner needs to kill the right processes when this shim has been killed.
func (s *supervisor) noteState(pid int) {
	self := os.Getpid()
	text := "shim " + strconv.Itoa(self) + " " + proc.StartTime(self) + "\n" +
		"init " + strconv.Itoa(pid) + " " + proc.StartTime(pid) + "\n"
	replaceFile(s.cfg.Dir+"/"+shimproto.StateName, text)
}

// fail ends a run whose start failed.
func (s *supervisor) fail(text string) {
	s.conclude(shimproto.Exit{Code: 128, AtUnixNano: time.Now().UnixNano(), Error: text})
}

// ended follows the death of the container's init.
func (s *supervisor) ended(st proc.Status) {
	oom := proc.OOMKills(s.cfg.OOMFiles) > s.task.oomBase // at once: systemd removes an empty group of its own
	if s.cfg.KillAll {
		s.killRest()
	}
	s.task.drain()
	s.conclude(shimproto.Exit{Code: st.Code, AtUnixNano: st.AtUnixNano, OOMKilled: oom})
}

// killRest kills what the end of a pid namespace would have killed, had the container one of its own.
func (s *supervisor) killRest() {
	if len(s.cfg.CgroupDirs) > 0 {
		proc.KillAll(s.cfg.CgroupDirs)
		return
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer null.Close()
	release := s.reaper.Hold()
	defer release()
	argv := append(append([]string(nil), s.cfg.Runtime...), "kill", "--all", s.cfg.ID, "KILL")
	fd := null.Fd()
	pid, err := proc.Start(argv, [3]uintptr{fd, fd, fd}, nil, nil)
	if err != nil {
		return
	}
	over := make(chan struct{})
	s.reaper.Claim(pid, func(proc.Status) { close(over) })
	<-over
}

// conclude records the end, then tells it, then lets the clients go.
func (s *supervisor) conclude(e shimproto.Exit) {
	record := `{"code":` + strconv.Itoa(e.Code) + `,"atUnixNano":` + strconv.FormatInt(e.AtUnixNano, 10) +
		`,"oomKilled":` + strconv.FormatBool(e.OOMKilled) + `,"error":` + quote(e.Error) + "}\n"
	replaceFile(s.cfg.Dir+"/"+shimproto.ExitName, record)
	s.mu.Lock()
	s.phase, s.exit = shimproto.Ended, e
	var w shimproto.Writer
	e.Put(&w)
	s.tell(shimproto.Frame{Kind: shimproto.Exited, Payload: w})
	s.mu.Unlock()
	s.task.close()
	s.settle()
}

// signal reaches the container's init or an exec.
func (s *supervisor) signal(target string, sig syscall.Signal) shimproto.Answer {
	s.mu.Lock()
	pid := s.pid
	if target != "" {
		pid = 0
		if e := s.execs[target]; e != nil {
			pid = e.pid
		}
	}
	s.mu.Unlock()
	if pid == 0 {
		return shimproto.Answer{Status: shimproto.Gone}
	}
	switch err := s.reaper.Signal(pid, sig); err {
	case nil:
		return shimproto.Answer{}
	case syscall.ESRCH:
		return shimproto.Answer{Status: shimproto.Gone}
	default:
		return shimproto.Answer{Status: shimproto.Failed, Text: err.Error()}
	}
}

// resize sets a terminal's size.
func (s *supervisor) resize(target string, height, width uint16) shimproto.Answer {
	t := s.task
	if target != "" {
		s.mu.Lock()
		e := s.execs[target]
		s.mu.Unlock()
		if e == nil {
			return shimproto.Answer{Status: shimproto.Gone}
		}
		t = e.task
	}
	if err := t.resize(height, width); err != nil {
		return shimproto.Answer{Status: shimproto.Failed, Text: err.Error()}
	}
	return shimproto.Answer{}
}

// stop ends the container, or a shim that has none.
func (s *supervisor) stop() shimproto.Answer {
	s.mu.Lock()
	pid := s.pid
	s.stopped = true
	created := s.phase == shimproto.Created
	s.mu.Unlock()
	if pid != 0 {
		s.reaper.Signal(pid, syscall.SIGKILL)
	}
	if created {
		s.mu.Lock()
		if s.phase == shimproto.Created {
			s.phase = shimproto.Ended
		}
		s.mu.Unlock()
		go s.fail("the container was never started")
	}
	return shimproto.Answer{}
}

// compressor runs this program once more for a rotated file; nil when rotated files stay as they are.
func (s *supervisor) compressor() logwriter.Compressor {
	if !s.cfg.LogCompress {
		return nil
	}
	return func(path string, last int64) <-chan struct{} {
		over := make(chan struct{})
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			close(over)
			return over
		}
		defer null.Close()
		release := s.reaper.Hold()
		defer release()
		fd := null.Fd()
		argv := []string{"/proc/self/exe", compressCommand, path, strconv.FormatInt(last, 10)}
		pid, err := proc.Start(argv, [3]uintptr{fd, fd, fd}, nil, nil)
		if err != nil {
			close(over)
			return over
		}
		s.reaper.Claim(pid, func(proc.Status) { close(over) })
		return over
	}
}

func replaceFile(path, text string) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// prefixed is an error with a text in front. It exists because package fmt would cost each container memory.
func prefixed(prefix string, err error) error { return textError(prefix + err.Error()) }

type textError string

func (e textError) Error() string { return string(e) }

// quote makes a JSON string of printable text; what is not ASCII stays as it is.
func quote(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	b := []byte{'"'}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c < 0x20:
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
