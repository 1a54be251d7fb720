package buildkit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/identity"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/grpc/metadata"

	"longshore/internal/core/build"
	"longshore/internal/core/fault"
)

// statusLimit is how long progress may be silent after the solver has answered before it counts as complete: a request
// that failed before it became a job has none.
const statusLimit = time.Second

// running are the builds under way, by their clients' IDs.
type running struct {
	mu     sync.Mutex
	builds map[string]context.CancelFunc
	wait   sync.WaitGroup
}

func (r *running) add(id string, cancel context.CancelFunc) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.builds[id]; taken {
		return false
	}
	r.builds[id] = cancel
	r.wait.Add(1)
	return true
}

func (r *running) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.builds, id)
	r.wait.Done()
}

func (r *running) cancelAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cancel := range r.builds {
		cancel()
	}
}

// Cancel implements build.Builder.
func (b *Builder) Cancel(_ context.Context, id string) error {
	b.running.mu.Lock()
	defer b.running.mu.Unlock()
	cancel, ok := b.running.builds[id]
	if !ok {
		return fault.NotFound("no such build: %s", id)
	}
	cancel()
	return nil
}

// Solve implements build.Builder.
func (b *Builder) Solve(ctx context.Context, r build.Request, progress chan<- *client.SolveStatus) (build.Result, error) {
	if progress != nil {
		defer close(progress)
	}
	if r.ID == "" {
		r.ID = identity.NewID()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := b.open(ctx)
	if err != nil {
		return build.Result{}, err
	}
	if !b.running.add(r.ID, cancel) {
		return build.Result{}, fault.Conflict("build %s is running already", r.ID)
	}
	defer b.cfg.idle()
	defer b.running.remove(r.ID)
	sessionID := r.Session
	if sessionID == "" {
		id, stop, err := c.serveSession(ctx, r)
		if err != nil {
			return build.Result{}, fmt.Errorf("serve the build's sources: %w", err)
		}
		defer stop()
		sessionID = id
	}
	// The client's ID may come again; the solver's names its history.
	req, err := b.solveRequest(r, sessionID)
	if err != nil {
		return build.Result{}, err
	}
	req.Ref = identity.NewID()
	resp, err := b.solve(ctx, c, req, progress)
	if err != nil {
		return build.Result{}, stepError(ctx, err)
	}
	return result(resp)
}

// solve runs a request and its progress side by side.
func (b *Builder) solve(ctx context.Context, c *core, req *controlapi.SolveRequest, progress chan<- *client.SolveStatus) (*controlapi.SolveResponse, error) {
	updates := make(chan *controlapi.StatusResponse, 16)
	statusCtx, stopStatus := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStatus()
	b.running.wait.Go(func() {
		defer close(updates)
		_ = c.controller.Status(&controlapi.StatusRequest{Ref: req.Ref}, &statusStream{ctx: statusCtx, out: updates})
	})
	type answer struct {
		resp *controlapi.SolveResponse
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		resp, err := c.controller.Solve(ctx, req)
		answered <- answer{resp, err}
	}()
	var got *answer
	var silent <-chan time.Time
	for got == nil || updates != nil {
		select {
		case a := <-answered:
			got, silent = &a, time.After(statusLimit)
		case u, ok := <-updates:
			if !ok {
				updates = nil
				break
			}
			if progress != nil {
				progress <- client.NewSolveStatus(u)
			}
			if got != nil {
				silent = time.After(statusLimit)
			}
		case <-silent:
			updates = nil
		}
	}
	return got.resp, got.err
}

// statusStream is the server's side of a progress stream without a network.
type statusStream struct {
	controlapi.Control_StatusServer
	ctx context.Context
	out chan<- *controlapi.StatusResponse
}

func (s *statusStream) Context() context.Context { return s.ctx }

func (s *statusStream) SendHeader(metadata.MD) error { return nil }

func (s *statusStream) SendMsg(m any) error {
	resp, ok := m.(*controlapi.StatusResponse)
	if !ok {
		return fmt.Errorf("progress of unknown type %T", m)
	}
	select {
	case s.out <- resp:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func result(resp *controlapi.SolveResponse) (build.Result, error) {
	out := build.Result{Response: resp.ExporterResponse}
	if d := out.Response[exptypes.ExporterImageDigestKey]; d != "" {
		out.ID = digest.Digest(d)
	}
	if text := out.Response[exptypes.ExporterImageDescriptorKey]; text != "" {
		doc, err := base64.StdEncoding.DecodeString(text)
		if err == nil {
			err = json.Unmarshal(doc, &out.Target)
		}
		if err != nil {
			return out, fmt.Errorf("read the built image's descriptor: %w", err)
		}
	}
	return out, nil
}
