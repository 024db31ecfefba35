// SPDX-License-Identifier: Apache-2.0

// Package file is the file sensor: files opened for reading or writing, created, truncated, renamed, linked,
// removed, their mode and owner changed; by the object where the kernel lets it. In: the records and counts of
// file.bpf.c. Out: file events; repeated opens are one event with a count, at an interval and when the process has ended.
//
// One event an open, the most telling: create when this open made the file, else truncate when it emptied a regular file
// (O_TRUNC), else write, else read. The same by the same program image on the same file under the same name is
// folded. Opens that failed are events only when they were denied (EACCES, EPERM, EROFS, ETXTBSY, EXDEV); changes
// that failed always are. Not events: opens with O_PATH, which give no access, and opens of what is not there.
//
// Paths are those below the process's root directory. A file without a name (O_TMPFILE, memfd, removed since) is shown as
// the kernel shows it, "/tmp/#123 (deleted)", "/memfd:name (deleted)"; a pipe opened again through /proc as
// "pipe:[inode]". Device is that of the file system (of a subvolume's file system on btrfs), which stat may show otherwise.
//
// Counted as lost, not seen: names that io_uring changes, what it opens into its own table, and what 32-bit programs do.
// Not seen at all: denied opens by io_uring, and any of its opens before Linux 5.19.
package file
