package classic

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"google.golang.org/protobuf/proto"

	"longshore/internal/base/ids"
	"longshore/internal/core/build"
	"longshore/internal/core/fault"
	"longshore/internal/service/build/buildcontext"
)

// IDs of the aux objects that BuildKit's clients read.
const (
	traceID = "moby.buildkit.trace"
	imageID = "moby.image.id"
)

// Remotes that stand for what a client brings by other ways.
const (
	clientSession = "client-session"
	uploadRequest = "upload-request"
	uploadPrefix  = "upload-request:"
)

// Trace carries out a build of a BuildKit client (version=2): progress goes out as the builder's own records.
func (s *Service) Trace(ctx context.Context, r Request, emit Emit) error {
	if id, ok := strings.CutPrefix(r.Build.ID, uploadPrefix); ok {
		return s.uploads.bring(ctx, id, r.Source.Body)
	}
	r.Build.Auth = hosts(r.Build.Auth)
	r.Build.Source.Remote = r.Source.Remote
	if r.Build.Dockerfile = r.Source.Dockerfile; r.Source.Remote == uploadRequest {
		body, done, err := s.uploads.wait(ctx, r.Build.ID)
		if err != nil {
			return err
		}
		defer done()
		r.Source.Remote, r.Source.Body = "", body
	}
	if r.Source.Remote == "" {
		files, err := s.d.Intake.Take(ctx, buildcontext.Source{Body: r.Source.Body, Dockerfile: r.Source.Dockerfile})
		if err != nil {
			return err
		}
		defer s.discard(files)
		r.Build.Source.Remote, r.Build.Source.Context, r.Build.Source.Key, r.Build.Dockerfile = "", files.Files, ids.New(), "Dockerfile"
		if r.Build.Source.Dockerfile, err = files.Give(files.Dockerfile); err != nil {
			return err
		}
	} else if r.Source.Remote == clientSession && r.Build.Session == "" {
		return fault.Invalid("a build from a client's session needs a session")
	}
	return s.trace(ctx, r.Build, emit)
}

func (s *Service) trace(ctx context.Context, r build.Request, emit Emit) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	progress := make(chan *client.SolveStatus, 16)
	var result build.Result
	var err error
	var solving sync.WaitGroup
	solving.Go(func() { result, err = s.d.Builder.Build(ctx, r, progress) })
	var told error
	for st := range progress {
		if told == nil {
			if told = emitTrace(st, emit); told != nil {
				cancel()
			}
		}
	}
	solving.Wait()
	if told != nil {
		return told
	}
	if err != nil {
		return err
	}
	if result.ID == "" {
		return nil
	}
	return emit(Aux{ID: imageID, Aux: ImageID{ID: result.ID.String()}})
}

func emitTrace(st *client.SolveStatus, emit Emit) error {
	for _, record := range st.Marshal() {
		doc, err := proto.Marshal(record)
		if err != nil {
			return fmt.Errorf("encode progress: %w", err)
		}
		if err := emit(Aux{ID: traceID, Aux: doc}); err != nil {
			return err
		}
	}
	return nil
}

// uploads bring a build, which has one connection for its progress, its context by another one.
type uploads struct {
	mu      sync.Mutex
	waiting map[string]chan upload
}

type upload struct {
	body io.Reader
	done chan struct{}
}

// uploadLimit is how long one side waits for the other.
const uploadLimit = 5 * time.Second

func (u *uploads) channel(id string) chan upload {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waiting[id] == nil {
		u.waiting[id] = make(chan upload)
	}
	return u.waiting[id]
}

func (u *uploads) forget(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.waiting, id)
}

// bring hands a body to the build that waits for it and answers when it has been read.
func (u *uploads) bring(ctx context.Context, id string, body io.Reader) error {
	up := upload{body, make(chan struct{})}
	limit := time.NewTimer(uploadLimit)
	defer limit.Stop()
	select {
	case u.channel(id) <- up:
	case <-ctx.Done():
		u.forget(id)
		return ctx.Err()
	case <-limit.C:
		u.forget(id)
		return fault.NotFound("no build %s waits for an upload", id)
	}
	select {
	case <-up.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait answers the body; done must be called when it has been read.
func (u *uploads) wait(ctx context.Context, id string) (body io.Reader, done func(), err error) {
	if id == "" {
		return nil, nil, fault.Invalid("a build that waits for an upload needs a build ID")
	}
	defer u.forget(id)
	limit := time.NewTimer(uploadLimit)
	defer limit.Stop()
	select {
	case up := <-u.channel(id):
		return up.body, func() { close(up.done) }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-limit.C:
		return nil, nil, fault.Invalid("no upload came for build %s", id)
	}
}
