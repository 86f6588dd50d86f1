"""What setup.cfg cannot say: the compiled core of mining. It is C++17 and needs a compiler (`apt install g++`)."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "seamlessalign.mining._scan",
            ["mining/scan.cpp"],
            language="c++",
            extra_compile_args=["-std=c++17", "-O3", "-Wno-maybe-uninitialized", "-Wno-uninitialized"],
        )
    ]
)
