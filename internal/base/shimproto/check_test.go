package shimproto

import (
	"reflect"
	"testing"
)

func TestCheckMessages(t *testing.T) {
	at := Place{Tasks: []string{"/g/tasks"}, Group: "/u", Init: 7, Filter: "f\x00", Homed: true}
	plan := Plan{Args: []string{"sh", "-c", "x"}, Env: []string{"A=b"}, Cwd: "/", UID: 3, Caps: Caps{Bounding: 1 << 40}, Rlimits: []Rlimit{{7, 1, 2}}}
	want := CheckRequest{Call: 1 << 31, TimeoutNano: 3e10}
	message := CheckRequest{Call: want.Call, TimeoutNano: want.TimeoutNano, Rest: EncodeWay(&at, &plan)}.Encode()
	r, gotAt, gotPlan, err := DecodeCheck(message)
	if err != nil || !reflect.DeepEqual(r, want) || !reflect.DeepEqual(gotAt, &at) || !reflect.DeepEqual(gotPlan, &plan) {
		t.Errorf("%+v %+v %+v %v", r, gotAt, gotPlan, err)
	}
	for n := range len(message) {
		r, _, plan, err := DecodeCheck(message[:n])
		if cancel := n == 4; (err == nil) != cancel || cancel && (plan != nil || r.Call != want.Call) {
			t.Errorf("cut to %d: %+v %v", n, r, err)
		}
	}
	a := CheckAnswer{Call: 9, Status: Failed, Code: 137, Late: true, Output: "o\n", More: true, Home: "HOME=/"}
	if got, err := DecodeCheckAnswer(a.Encode()); err != nil || got != a {
		t.Errorf("%+v %v", got, err)
	}
	for n := range len(a.Encode()) {
		if _, err := DecodeCheckAnswer(a.Encode()[:n]); err == nil {
			t.Errorf("an answer cut to %d", n)
		}
	}
}
