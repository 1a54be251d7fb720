package version

import "slices"

// rungs lists every version from the second to the newest.
func rungs() []Rung {
	return embedContainers([]Rung{
		v1_1(), v1_2(), v1_3(), v1_4(), v1_5(), v1_6(), v1_7(), v1_8(), v1_9(), v1_10(), v1_11(), v1_12(),
		v1_13(), v1_14(), v1_15(), v1_16(), v1_17(), v1_18(), v1_19(), v1_20(), v1_21(), v1_22(), v1_23(),
		v1_24(), v1_25(), v1_26(), v1_27(), v1_28(), v1_29(), v1_30(),
		v1_31(), v1_32(), v1_33(), v1_34(), v1_35(), v1_36(), v1_37(), v1_38(), v1_39(), v1_40(),
		v1_41(), v1_42(), v1_43(), v1_44(), v1_45(), v1_46(), v1_47(), v1_48(), v1_49(), v1_50(),
		v1_51(), v1_52(), v1_53(), v1_54(), v1_55(),
	})
}

// embedContainers lowers the container that execs showed before 1.22 as an inspected one: the rung of 1.22 by everything
// since, each older rung by what it does itself.
func embedContainers(list []Rung) []Rung {
	at := slices.IndexFunc(list, func(r Rung) bool { return r.Version == "1.22" })
	var since []Change
	for _, r := range list[at:] {
		since = append(since, ofExec(r)...)
	}
	list[at].Changes = append(list[at].Changes, Change{What: "the container of an exec", Routes: []string{execInspect}, Lower: func(v *View) {
		for _, c := range slices.Backward(since) {
			c.Lower(v)
		}
	}})
	for i := range list[:at] {
		list[i].Changes = append(list[i].Changes, ofExec(list[i])...)
	}
	return list
}

// ofExec are a rung's changes of inspected containers, for the container of an exec.
func ofExec(r Rung) []Change {
	var out []Change
	for _, c := range r.Changes {
		if lower := c.Lower; lower != nil && slices.Contains(c.Routes, inspect) {
			out = append(out, Change{What: c.What + " (of an exec)", Routes: []string{execInspect}, Lower: func(v *View) {
				if body := v.Body.Member("Container"); body != nil {
					lower(&View{Body: body, Request: v.Request})
				}
			}})
		}
	}
	return out
}
