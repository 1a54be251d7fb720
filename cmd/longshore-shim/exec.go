package main

import (
	"os"
	"strings"
	"syscall"
	"time"

	"longshore/cmd/longshore-shim/internal/enter"
	"longshore/cmd/longshore-shim/internal/proc"
	"longshore/internal/base/shimproto"
)

// streamTime is how long a request for an exec and its stream wait for each other.
const streamTime = 10 * time.Second

// execution is one exec. Its stream connection and its request come in any order; either makes it.
type execution struct {
	id     string
	stream chan *os.File // takes one

	// guarded by supervisor.mu
	claimed bool // the request has come
	task    *task
	pid     int // 0 before it runs and after it has ended
	over    bool
}

// execution finds or makes the exec of that ID. One whose other half does not come is dropped.
func (s *supervisor) execution(id string) *execution {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.execs[id]
	if e == nil {
		e = &execution{id: id, stream: make(chan *os.File, 1), over: true, task: s.newTask(taskConfig{})}
		s.execs[id] = e
		time.AfterFunc(streamTime, func() {
			s.mu.Lock()
			claimed := e.claimed
			s.mu.Unlock()
			if !claimed {
				s.dropExec(e)
			}
		})
	}
	return e
}

// offer gives the exec its stream; a second one is closed.
func (e *execution) offer(f *os.File) {
	select {
	case e.stream <- f:
	default:
		f.Close()
	}
}

func (s *supervisor) dropExec(e *execution) {
	s.mu.Lock()
	if s.execs[e.id] == e {
		delete(s.execs, e.id)
	}
	s.mu.Unlock()
	select {
	case f := <-e.stream:
		f.Close()
	default:
	}
	s.settle()
}

// exec runs one more process in the container.
func (s *supervisor) exec(r shimproto.ExecRequest) shimproto.Answer {
	if r.ID == "" || strings.ContainsAny(r.ID, "/\x00") {
		return shimproto.Answer{Status: shimproto.Failed, Text: "exec without an ID"}
	}
	e := s.execution(r.ID)
	t := s.newTask(taskConfig{
		terminal: r.Terminal, stdin: r.Stdin, stdout: r.Stdout, stderr: r.Stderr,
		closeStdin: !r.Terminal, height: r.Height, width: r.Width,
	})
	s.mu.Lock()
	if e.claimed {
		s.mu.Unlock()
		return shimproto.Answer{Status: shimproto.Failed, Text: "exec " + r.ID + " exists"}
	}
	e.claimed, e.over, e.task = true, false, t
	s.mu.Unlock()
	if !s.running() {
		s.abandon(e)
		return shimproto.Answer{Status: shimproto.Gone}
	}
	if r.HasStream() && !s.joinStream(e, t, r) {
		s.abandon(e)
		return shimproto.Answer{Status: shimproto.Failed, Text: "the exec's stream did not come"}
	}
	pid, text, err := s.enterExec(e, t, r.Plan), "", error(nil)
	if pid == 0 && s.running() {
		pid, text, err = s.launchExec(e, t, r.Plan)
	}
	switch {
	case pid == 0 && !s.running(): // the container ended in the meantime, whatever the runtime made of that
		s.abandon(e)
		return shimproto.Answer{Status: shimproto.Gone}
	case err != nil:
		s.abandon(e)
		return shimproto.Answer{Status: shimproto.Failed, Text: err.Error()}
	case pid == 0:
		s.abandon(e)
		return shimproto.Answer{Status: shimproto.RuntimeFailed, Text: text}
	}
	return shimproto.Answer{PID: pid}
}

// running tells whether the container's init is alive; its end is recorded a little later.
func (s *supervisor) running() bool {
	s.mu.Lock()
	pid, running := s.pid, s.phase == shimproto.Running
	s.mu.Unlock()
	return running && s.reaper.Signal(pid, 0) == nil
}

// joinStream attaches the exec's one client, which must be there before the process writes.
func (s *supervisor) joinStream(e *execution, t *task, r shimproto.ExecRequest) bool {
	limit := time.NewTimer(streamTime)
	defer limit.Stop()
	select {
	case f := <-e.stream:
		remove, err := t.out.Add(f, r.Stdout || r.Terminal, r.Stderr)
		if err != nil {
			f.Close()
			return false
		}
		go func() {
			t.in.Feed(f, r.Stdin)
			remove()
		}()
		return true
	case <-limit.C:
		return false
	}
}

// enterExec starts the process without the OCI runtime. 0 means that nothing of it has run and that the runtime is to try.
func (s *supervisor) enterExec(e *execution, t *task, plan *shimproto.Plan) (pid int) {
	if plan == nil || t.cfg.terminal || s.door == nil {
		return 0
	}
	s.mu.Lock()
	init := s.pid
	s.mu.Unlock()
	var in enter.Init
	if err := s.reaper.Alive(init, func() (err error) {
		in, err = enter.OpenInit(init)
		return err
	}); err != nil {
		return 0
	}
	defer in.Close()
	w, err := t.wire()
	if err != nil {
		return 0
	}
	defer w.close()
	w.giveTo(int(plan.UID), int(plan.GID))
	release := s.reaper.Hold()
	defer release()
	pid, err = s.door.Start(plan, in, w.child)
	w.closeChild()
	switch {
	case pid == 0:
		return 0
	case err != nil:
		s.reaper.Claim(pid, func(proc.Status) {})
		return 0
	}
	t.joinPipes(w)
	s.runs(e, t, pid)
	if !s.running() { // it may have joined the container's groups after they were emptied
		s.reaper.Signal(pid, syscall.SIGKILL)
	}
	return pid
}

// launchExec has the OCI runtime start the process. It finds its document in the run directory.
func (s *supervisor) launchExec(e *execution, t *task, plan *shimproto.Plan) (pid int, text string, err error) {
	base := s.cfg.Dir + "/exec-" + e.id
	process, pidFile, logFile := s.cfg.Dir+"/"+shimproto.ExecFile(e.id), base+".pid", base+".log"
	defer func() {
		os.Remove(process)
		os.Remove(pidFile)
		os.Remove(logFile)
	}()
	if plan != nil {
		if err := os.WriteFile(process, []byte(plan.Document), 0o600); err != nil {
			return 0, "", err
		}
	}
	t.cfg.pipes = !t.cfg.terminal
	release := s.reaper.Hold()
	defer release()
	pid, text, err = t.launch(launch{
		logFile: logFile, pidFile: pidFile, console: "c" + e.id[:min(len(e.id), 16)],
		args: []string{"exec", "--process", process, "--pid-file", pidFile, "--detach"},
		id:   s.cfg.ID,
	})
	if err != nil || pid == 0 {
		return 0, text, err
	}
	s.runs(e, t, pid)
	return pid, "", nil
}

// runs notes the exec's process and follows its end. The caller holds the reaper.
func (s *supervisor) runs(e *execution, t *task, pid int) {
	s.mu.Lock()
	e.pid = pid
	s.mu.Unlock()
	s.reaper.Claim(pid, func(st proc.Status) { go s.execEnded(e, t, st) })
}

// abandon ends an exec that did not come to run.
func (s *supervisor) abandon(e *execution) {
	s.mu.Lock()
	e.over = true
	t := e.task
	s.mu.Unlock()
	t.close()
	s.dropExec(e)
}

func (s *supervisor) execEnded(e *execution, t *task, st proc.Status) {
	s.mu.Lock()
	e.pid = 0
	s.mu.Unlock()
	t.drain()
	t.close()
	var w shimproto.Writer
	w.String(e.id)
	shimproto.Exit{Code: st.Code, AtUnixNano: st.AtUnixNano}.Put(&w)
	s.mu.Lock()
	e.over = true
	s.tell(shimproto.Frame{Kind: shimproto.ExecExited, Payload: w})
	s.mu.Unlock()
	s.settle()
}
