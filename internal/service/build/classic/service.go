// Package classic carries builds out for clients of POST /build: the classic builder's requests and its text, on top of
// the builder that the engine has. Stream turns the builder's progress into the text, and is pure; Service does the rest:
// it takes the context in, brings base images, builds and tells.
package classic

import (
	"context"
	"errors"
	"log/slog"
	"maps"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/base/ids"
	"longshore/internal/core/build"
	"longshore/internal/core/fault"
	"longshore/internal/core/image"
	"longshore/internal/service/build/buildcontext"
	"longshore/internal/service/build/dockerfile"
)

// Builder is what carries builds out.
type Builder interface {
	Build(ctx context.Context, r build.Request, progress chan<- *client.SolveStatus) (build.Result, error)
}

// Images are the engine's images.
type Images interface {
	// Resolve finds an image that is here; nil as a platform means the host's.
	Resolve(ctx context.Context, ref string, platform *ocispec.Platform) (image.Image, error)
	// Pull gets one tag or digest; progress goes to emit.
	Pull(ctx context.Context, ref reference.Named, o PullOptions, emit func(any) error) error
}

// PullOptions say how an image is pulled.
type PullOptions struct {
	Platform *ocispec.Platform
	Auth     *registry.AuthConfig
}

// Deps are what the service works with.
type Deps struct {
	Builder Builder
	Images  Images
	Intake  *buildcontext.Intake
	Log     *slog.Logger
}

// Service carries classic builds out. Safe for concurrent use.
type Service struct {
	d       Deps
	host    ocispec.Platform
	memory  Memory
	uploads uploads
}

// New starts nothing.
func New(d Deps) *Service {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{d: d, host: platforms.DefaultSpec(), uploads: uploads{waiting: map[string]chan upload{}}}
}

// Request is a classic build.
type Request struct {
	// Build is what to build; its Source is filled in from Source.
	Build  build.Request
	Source buildcontext.Source
	// Quiet tells the image's ID and nothing else, unless the build fails.
	Quiet bool
	// Remove tells that the containers of steps are removed.
	Remove bool
}

// Build carries a request out and sends the classic builder's text. A failed step is an *Error.
func (s *Service) Build(ctx context.Context, r Request, emit Emit) error {
	tags, err := tags(r.Build.Output.Names)
	if err != nil {
		return err
	}
	r.Build.Output.Names = tags.full
	r.Build.Auth = hosts(r.Build.Auth)
	platform := s.host
	if len(r.Build.Platforms) > 0 {
		if platform, err = parsePlatform(r.Build.Platforms[0]); err != nil {
			return err
		}
	}
	files, err := s.d.Intake.Take(ctx, r.Source)
	if err != nil {
		return err
	}
	defer s.discard(files)
	plan, err := dockerfile.Read(files.Dockerfile, dockerfile.Options{
		Name: files.Name, Target: r.Build.Target, Args: r.Build.Args, Labels: r.Build.Labels, Platform: platform, Host: s.host,
	})
	if err != nil {
		return err
	}
	if err := use(&r.Build, files, plan); err != nil {
		return err
	}
	if r.Quiet {
		return s.quietly(ctx, r, plan, emit)
	}
	_, err = s.run(ctx, r, plan, tags, emit)
	return err
}

func (s *Service) discard(files *buildcontext.Context) {
	if err := files.Close(); err != nil {
		s.d.Log.Warn("build context stays on the disk until the next start", "error", err)
	}
}

// use hands the context and the Dockerfile to the builder. The text ends with the target, which is how a stage without a
// name can be one. No two contexts have the same key: archives tell times in seconds, so that a file that has changed can
// look like the one before. A "# syntax=" line is no more than the comment that it looks like, as it was for the classic builder.
func use(r *build.Request, files *buildcontext.Context, plan *dockerfile.Plan) (err error) {
	r.Source.Context, r.Source.Key, r.Dockerfile, r.Target = files.Files, ids.New(), "Dockerfile", ""
	r.Attrs = maps.Clone(r.Attrs)
	if r.Attrs == nil {
		r.Attrs = map[string]string{}
	}
	r.Attrs["cmdline"] = "classic"
	r.Source.Dockerfile, err = files.Give(plan.Cut(files.Dockerfile))
	return err
}

// quietly keeps the text back.
func (s *Service) quietly(ctx context.Context, r Request, plan *dockerfile.Plan, emit Emit) error {
	var kept []any
	id, err := s.run(ctx, r, plan, tagList{}, func(v any) error {
		kept = append(kept, v)
		return nil
	})
	if err == nil {
		return emit(Line{Stream: id.String() + "\n"})
	}
	for _, v := range kept {
		if emitErr := emit(v); emitErr != nil {
			return errors.Join(err, emitErr)
		}
	}
	return err
}

// run brings the images that the plan needs, builds, and tells both.
func (s *Service) run(ctx context.Context, r Request, plan *dockerfile.Plan, tags tagList, emit Emit) (digest.Digest, error) {
	stream := NewStream(plan, StreamOptions{Remove: r.Remove, NewID: ids.New, Memory: &s.memory, NoCache: r.Build.Cache.None}, emit)
	for _, img := range plan.Images {
		if err := s.bring(ctx, r.Build, img, stream); err != nil {
			return "", err
		}
	}
	r.Build.Cache.Pull = false // has been done
	if err := stream.advance(); err != nil {
		return "", err
	}
	result, err := s.solve(ctx, r.Build, stream)
	if err != nil {
		return "", s.failure(err, plan, stream)
	}
	return result.ID, stream.Finish(result.ID, tags.familiar)
}

// solve builds while the progress is told. A client that does not read any more ends the build.
func (s *Service) solve(ctx context.Context, r build.Request, stream *Stream) (build.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		result build.Result
		err    error
	}
	progress, done := make(chan *client.SolveStatus, 16), make(chan outcome, 1)
	go func() {
		result, err := s.d.Builder.Build(ctx, r, progress)
		done <- outcome{result, err}
	}()
	var told error
	for st := range progress {
		if told != nil {
			continue
		}
		if told = stream.Status(st); told != nil {
			cancel()
		}
	}
	o := <-done
	if told != nil {
		return o.result, told
	}
	return o.result, o.err
}

// bring sees to it that an image is here.
func (s *Service) bring(ctx context.Context, r build.Request, img dockerfile.Image, stream *Stream) error {
	var platform *ocispec.Platform
	if !platforms.OnlyStrict(s.host).Match(img.Platform) {
		platform = &img.Platform
	}
	found, err := s.d.Images.Resolve(ctx, img.Ref, platform)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if err != nil || r.Cache.Pull {
		ref, perr := reference.ParseNormalizedNamed(img.Ref)
		if perr != nil {
			return fault.Invalid("%w", perr)
		}
		ref = reference.TagNameOnly(ref)
		if err := stream.advance(); err != nil {
			return err
		}
		o := PullOptions{Platform: platform, Auth: credentials(r.Auth, ref)}
		if err := s.d.Images.Pull(ctx, ref, o, func(v any) error { return stream.Pulling(img, v) }); err != nil {
			return err
		}
		if found, err = s.d.Images.Resolve(ctx, img.Ref, platform); err != nil {
			return err
		}
	}
	for i, stage := range stream.plan.Stages {
		if stage.Base == img.Ref {
			if err := stream.Base(i, found.ID.String(), len(found.Config.Config.OnBuild)); err != nil {
				return err
			}
		}
	}
	return nil
}
