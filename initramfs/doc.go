// Package initramfs packs boot images: cpio archives in the newc format, as the
// kernel unpacks them into its first root file system.
//
// What goes into an image is a table of values (Dir, File, Symlink, Node), so it
// can be made anywhere and by anyone: device nodes are only described, never
// made, and nothing needs root. The same table gives the same bytes.
//
// It has its own writer because the known ones do not fit: cavaliergopher/cpio
// never writes device numbers, and u-root's cpio brings a hundred modules. It is
// not linked into the boot binary, and so it uses the standard library freely.
package initramfs
