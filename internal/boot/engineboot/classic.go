package engineboot

import (
	"context"
	"path/filepath"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/image"
	"longshore/internal/driver/buildsource"
	"longshore/internal/service/build/buildcontext"
	"longshore/internal/service/build/classic"
	"longshore/internal/service/engine/images"
)

// makeClassic makes what stands between POST /build and the builder.
func (e *engine) makeClassic(_ context.Context, down *closers) error {
	scratch, err := buildsource.OpenScratch(filepath.Join(e.cfg.DataRoot, "build-contexts"))
	if err != nil {
		return err
	}
	remotes := buildsource.NewRemotes(buildsource.Config{AllowLocal: e.cfg.BuildLocalRemotes, UserAgent: "longshore/" + e.build.Version})
	down.add(remotes.Close)
	e.classic = classic.New(classic.Deps{
		Builder: e.builds, Images: buildImages{e.images}, Log: e.log,
		Intake: buildcontext.New(buildcontext.Config{Limit: int64(e.cfg.BuildContextLimit)}, scratch, remotes),
	})
	return nil
}

// buildImages are the images as classic builds see them.
type buildImages struct{ svc *images.Service }

func (b buildImages) Resolve(ctx context.Context, ref string, p *ocispec.Platform) (image.Image, error) {
	return b.svc.Resolve(ctx, ref, p)
}

func (b buildImages) Pull(ctx context.Context, ref reference.Named, o classic.PullOptions, emit func(any) error) error {
	pull := images.PullOptions{Image: ref.Name(), Platform: o.Platform, Auth: o.Auth}
	if t, ok := ref.(reference.Tagged); ok {
		pull.Tag = t.Tag()
	}
	if d, ok := ref.(reference.Digested); ok {
		pull.Tag = d.Digest().String()
	}
	return b.svc.Pull(ctx, pull, emit)
}
