"""Whom the list of access (acl(5)) of a file names beside its owner and its group."""

# Part of scripts that run on the host, whose getfacl(1) may not be there. Layout: version, then tag, permissions and number of each
# entry (linux: include/uapi/linux/posix_acl_xattr.h).
READ = r"""
import errno, os, struct
def named_in_list(path, wanted):
    # (user or group, number) of each entry that gives one of the wanted permissions (4 read, 2 write) within the mask.
    try:
        entries = list(struct.iter_unpack("<HHI", os.getxattr(path, "system.posix_acl_access")[4:]))
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return []
        raise
    mask = next((bits for tag, bits, _ in entries if tag == 0x10), 7)
    return [({2: "user", 8: "group"}[tag], number) for tag, bits, number in entries if tag in (2, 8) and bits & mask & wanted]
"""
