// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"strconv"
	"time"
)

// Duration is d with two or three digits: "0.4ms", "12ms", "3.1s", "2m05s", "3h12m", "5d04h".
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Duration(-d)
	case d < time.Microsecond:
		return strconv.FormatInt(int64(d), 10) + "ns"
	case d < 100*time.Microsecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// Age is Duration in whole seconds.
func Age(d time.Duration) string {
	if d = max(d, 0); d < time.Minute {
		return strconv.Itoa(int(d.Seconds())) + "s"
	}
	return Duration(d)
}

// Bytes is n in binary units with up to three digits: "0", "812", "1.2K", "34M".
func Bytes(n uint64) string { return scaled(n, 1024, "KMGTPE") }

// Count is n with decimal suffixes from ten thousand on: "999", "9999", "12k", "3.4M".
func Count(n uint64) string {
	if n < 10000 {
		return strconv.FormatUint(n, 10)
	}
	return scaled(n, 1000, "kMGTPE")
}

func scaled(n, unit uint64, suffixes string) string {
	if n < unit {
		return strconv.FormatUint(n, 10)
	}
	v, i := float64(n)/float64(unit), 0
	for v >= float64(unit) && i < len(suffixes)-1 {
		v /= float64(unit)
		i++
	}
	if v < 9.95 {
		return fmt.Sprintf("%.1f%c", v, suffixes[i])
	}
	return fmt.Sprintf("%.0f%c", v, suffixes[i])
}
