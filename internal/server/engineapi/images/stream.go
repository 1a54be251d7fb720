package images

import (
	"context"
	"io"

	"longshore/internal/server/route"
	service "longshore/internal/service/engine/images"
)

// create pulls or imports.
func (h handlers) create(_ context.Context, r *route.Request) (route.Response, error) {
	q := r.Query
	pull := service.PullOptions{Image: q.Get("fromImage"), Tag: q.Get("tag"), Auth: credentials(r)}
	imported := service.ImportOptions{
		Source: q.Get("fromSrc"), Repo: q.Get("repo"), Tag: q.Get("tag"), Message: q.Get("message"), Changes: q["changes"],
	}
	if s := q.Get("platform"); s != "" {
		p, err := service.ParsePlatform(s)
		if err != nil {
			return nil, err
		}
		pull.Platform, imported.Platform = p, p
	}
	return route.Lines{ErrorLine: true, Duplex: pull.Image == "", Run: func(ctx context.Context, emit func(any) error) error {
		if pull.Image != "" {
			return h.svc.Pull(ctx, pull, emit)
		}
		return h.svc.Import(ctx, r.Payload(), imported, emit)
	}}, nil
}

func (h handlers) push(_ context.Context, r *route.Request) (route.Response, error) {
	p, err := platform(r)
	if err != nil {
		return nil, err
	}
	o := service.PushOptions{Image: r.Var("name"), Tag: r.Query.Get("tag"), Platform: p, Auth: credentials(r)}
	return route.Lines{ErrorLine: true, Run: func(ctx context.Context, emit func(any) error) error {
		return h.svc.Push(ctx, o, emit)
	}}, nil
}

// load answers 200 from the start: what goes wrong is told in the stream, as docker does.
func (h handlers) load(_ context.Context, r *route.Request) (route.Response, error) {
	wanted, err := platformList(r, "platform")
	if err != nil {
		return nil, err
	}
	return route.Lines{Early: true, ErrorLine: true, Duplex: true, Run: func(ctx context.Context, emit func(any) error) error {
		return h.svc.Load(ctx, r.Payload(), wanted, emit)
	}}, nil
}

func (h handlers) save(ctx context.Context, r *route.Request) (route.Response, error) {
	return h.archive(ctx, r, []string{r.Var("name")})
}

func (h handlers) saveMany(ctx context.Context, r *route.Request) (route.Response, error) {
	return h.archive(ctx, r, r.Query["names"])
}

func (h handlers) archive(ctx context.Context, r *route.Request, names []string) (route.Response, error) {
	wanted, err := platformList(r, "platform")
	if err != nil {
		return nil, err
	}
	saving, err := h.svc.Save(ctx, names, wanted)
	if err != nil {
		return nil, err
	}
	return route.Raw{ContentType: "application/x-tar", Run: func(ctx context.Context, w io.Writer) error {
		defer saving.Close()
		return saving.Write(ctx, w)
	}}, nil
}
