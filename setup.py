"""The wheel holds what a checkout has beside the package: migrations and examples go inside it."""

from setuptools import find_namespace_packages, setup

BESIDE = ("migrations", "examples")

packages = find_namespace_packages(include=["app", "app.*"])
for folder in BESIDE:
    packages.append(f"app.{folder}")
    packages += [f"app.{folder}.{name}" for name in find_namespace_packages(folder)]

setup(packages=packages, package_dir={f"app.{folder}": folder for folder in BESIDE})
