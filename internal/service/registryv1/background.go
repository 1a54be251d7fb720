package registryv1

import (
	"context"
	"io"
	"time"

	"longshore/internal/core/graph"
	"longshore/internal/core/imagev1"
)

// sumEvery is how often Run looks for checksums that nobody has asked it for: those of other processes, and of a crash.
const sumEvery = time.Minute

// sumBatch is how many images one look finds.
const sumBatch = 50

// Run computes the checksums of images that were made of what clients of today have pushed, one after another, until ctx
// ends: the first pull need not wait for them, and later ones are told.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(sumEvery)
	defer tick.Stop()
	for {
		if err := s.sum(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("checksums are not computed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.wake:
		}
	}
}

// summon lets Run look now.
func (s *Service) summon() {
	select {
	case s.wake <- struct{}{}:
	default: // it has yet to look
	}
}

func (s *Service) sum(ctx context.Context) error {
	for {
		list, err := s.graph.Unsummed(ctx, sumBatch)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, p := range list {
			if err := s.sumOne(ctx, p); err != nil {
				return err
			}
		}
	}
}

func (s *Service) sumOne(ctx context.Context, p graph.Place) error {
	i, err := s.graph.Image(ctx, p.Repo, p.ID)
	if err != nil {
		return told(err, nil) // gone meanwhile
	}
	sum, err := s.payloadOf(ctx, found{p.Repo, i})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := sum.String()
	if err != nil {
		s.cfg.Logger.Warn("the layer has no checksum", "repository", string(p.Repo), "image", string(p.ID), "error", err)
		text = unsummable
	}
	err = s.graph.ChangeImage(ctx, p.Repo, p.ID, func(i *graph.Image) error {
		if i.Payload == "" {
			i.Payload = text
		}
		return nil
	})
	return told(err, nil)
}

// payloadOf reads a layer as it is served.
func (s *Service) payloadOf(ctx context.Context, f found) (imagev1.Checksum, error) {
	l, err := s.layer(ctx, f)
	if err != nil {
		return imagev1.Checksum{}, err
	}
	defer l.Close()
	var r io.Reader = l.Stream
	if l.Content != nil {
		r = l.Content
	}
	p := imagev1.NewPayload(f.JSON)
	_, err = io.Copy(p, ending{ctx, r})
	return p.Checksum(), err
}

// ending stops reading when the context ends.
type ending struct {
	ctx context.Context
	r   io.Reader
}

func (e ending) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.r.Read(p)
}
