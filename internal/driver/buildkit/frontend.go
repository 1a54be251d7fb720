package buildkit

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
)

// frontendLimit bounds how long the registry may take to tell about a Dockerfile frontend before the built-in one serves.
const frontendLimit = 15 * time.Second

// fallback runs frontends from images, and the built-in one in the place of docker's own Dockerfile frontend when that
// cannot be had: "# syntax=docker/dockerfile:1" must not keep a host without a registry from building.
type fallback struct {
	external, builtIn frontend.Frontend
	log               *slog.Logger
}

func withFallback(external, builtIn frontend.Frontend, log *slog.Logger) frontend.Frontend {
	return &fallback{external, builtIn, log}
}

// Solve implements BuildKit's frontend.Frontend.
func (f *fallback) Solve(ctx context.Context, bridge frontend.FrontendLLBBridge, exec executor.Executor, opts map[string]string, inputs map[string]*pb.Definition, sid string, sm *session.Manager) (*frontend.Result, error) {
	source := opts[frontend.KeySource]
	if opts["cmdline"] == "" || !dockersOwn(source) || opts["context:"+source] != "" {
		return f.external.Solve(ctx, bridge, exec, opts, inputs, sid, sm)
	}
	if err := f.reach(ctx, bridge, source); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		f.log.Info("Dockerfile frontend not available, the built-in one serves", "frontend", source, "error", err)
		own := maps.Clone(opts)
		delete(own, frontend.KeySource)
		return f.builtIn.Solve(ctx, bridge, exec, own, inputs, sid, sm)
	}
	return f.external.Solve(ctx, bridge, exec, opts, inputs, sid, sm)
}

func (f *fallback) reach(ctx context.Context, bridge frontend.FrontendLLBBridge, source string) error {
	ref, err := reference.ParseNormalizedNamed(source)
	if err != nil {
		return nil // its text is the external frontend's to complain about
	}
	ctx, cancel := context.WithTimeout(ctx, frontendLimit)
	defer cancel()
	_, _, _, err = sourceresolver.NewImageMetaResolver(bridge).ResolveImageConfig(ctx, reference.TagNameOnly(ref).String(), sourceresolver.Opt{})
	return err
}

// dockersOwn tells whether a frontend is docker/dockerfile of Docker Hub, of any channel but labs: that has instructions
// which the built-in one has not.
func dockersOwn(source string) bool {
	ref, err := reference.ParseNormalizedNamed(source)
	if err != nil || ref.Name() != "docker.io/docker/dockerfile" && ref.Name() != "docker.io/docker/dockerfile-upstream" {
		return false
	}
	if _, pinned := ref.(reference.Digested); pinned {
		return false
	}
	tagged, ok := ref.(reference.Tagged)
	return !ok || !strings.Contains(tagged.Tag(), "labs")
}
