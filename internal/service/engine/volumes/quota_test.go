package volumes

import (
	"errors"
	"strings"
	"testing"
)

func TestQuota(t *testing.T) {
	q := newQuotas()
	q.supported = func(string) error { return errors.New("not here") }
	if err := q.check("/x", map[string]string{"size": "1m"}); err == nil || err.Error() != "quota size requested but no quota support" {
		t.Error(err)
	}
	if err := q.check("/x", map[string]string{"size": "0"}); err != nil {
		t.Error(err)
	}
	if err := q.check("/x", map[string]string{"size": "many"}); err == nil || !strings.Contains(err.Error(), "invalid size") {
		t.Error(err)
	}
	q.supported = func(string) error { return nil }
	var got []uint32
	q.limit = func(project uint32, size uint64, dirs ...string) error {
		if size != 1<<20 || dirs[0] != "/v/_data" {
			t.Errorf("%d %v", size, dirs)
		}
		got = append(got, project)
		return nil
	}
	for range 2 {
		if err := q.check("/x", map[string]string{"size": "1m"}); err != nil {
			t.Error(err)
		}
		if err := q.bound("/v/_data", map[string]string{"size": "1m"}, []string{t.TempDir()}); err != nil {
			t.Error(err)
		}
	}
	if err := q.bound("/v/_data", nil, nil); err != nil {
		t.Error(err)
	}
	if len(got) != 2 || got[0] != firstProject || got[1] != firstProject+1 {
		t.Errorf("projects %v", got)
	}
}
