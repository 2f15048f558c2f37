"""The benchmarks' command line: `python -m scansearch_kernels.bench kernels|memory|device ...` or `--compile-only`."""

import sys


def main(arguments: list[str]) -> int:
    """Hand over to the benchmark named first; `--compile-only` compiles the GPU kernels. Returns the exit code."""
    if "--compile-only" in arguments:
        from scansearch_kernels.bench import compile_report

        compile_report.main([entry for entry in arguments if entry != "--compile-only"])
        return 0
    if arguments[:1] == ["device"]:
        from scansearch_kernels.bench import device

        return device.main(arguments[1:])
    from scansearch_kernels.bench import cpu

    return cpu.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
