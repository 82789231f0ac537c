"""Which settings the code reads: attributes of values whose type is a section of the settings tree.

Types come from annotations of parameters, class members and results, and from assignments between them; no
code is run. Where it is not known whose member `x.settings` is, all members of that name count, so a doubt
speaks for the reader: what is found unread has no reader, what is found read has at least a likely one.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from trionode.config.fields import SECTIONS, all_fields

ROOT = ""
"""The type of the whole tree; all others are names of sections."""

TYPES: Mapping[str, str] = {"Settings": ROOT} | {struct.__name__: name for name, struct in SECTIONS.items()}
NOTHING: frozenset[str] = frozenset()

Function = ast.FunctionDef | ast.AsyncFunctionDef


def unread(files: Iterable[Path]) -> list[str]:
    """Full keys of the settings that no attribute access in `files` reads, in the order of the tree."""
    program = _Program()
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    modules = [_Module(program, tree) for tree in trees]
    known = -1
    while known != program.known:  # a member may be assigned from one that is found out later
        known = program.known
        for module in modules:
            module.look()
    return [key for key in all_fields() if key not in program.reads]


class _Program:
    """What is known of the whole: types of members and results by their name, and the reads found."""

    def __init__(self) -> None:
        self.members: dict[str, set[str]] = defaultdict(set)
        self.own: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.reads: set[str] = set()

    @property
    def known(self) -> int:
        return sum(map(len, self.own.values()))


class _Module:
    def __init__(self, program: _Program, tree: ast.Module) -> None:
        self._program = program
        self._tree = tree
        self._texts = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }

    def look(self) -> None:
        self._body(self._tree, {}, "")

    def _body(self, node: ast.AST, names: dict[str, frozenset[str]], owner: str) -> None:
        for child in ast.iter_child_nodes(node):
            self._visit(child, names, owner)

    def _visit(self, node: ast.AST, names: dict[str, frozenset[str]], owner: str) -> None:
        if isinstance(node, ast.ClassDef):
            self._body(node, dict(names), f"{id(self._tree)} {node.name}")
            return
        if isinstance(node, Function):
            self._remember(owner, node.name, _annotated(node.returns))
            inner = dict(names)
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                inner[argument.arg] = _annotated(argument.annotation)
            self._body(node, inner, owner)
            return
        if isinstance(node, ast.Lambda):
            hidden = {argument.arg for argument in node.args.args}
            self._body(node, {name: kind for name, kind in names.items() if name not in hidden}, owner)
            return
        for target, value, annotation in _assignments(node):
            kinds = _annotated(annotation) | (NOTHING if value is None else self._kinds(value, names, owner))
            if isinstance(target, ast.Name):
                names[target.id] = kinds
                if annotation is not None:
                    self._remember(owner, target.id, kinds)
            elif isinstance(target, ast.Attribute):
                self._remember(owner, target.attr, kinds)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            self._program.reads |= {f"{kind}.{node.attr}" for kind in self._kinds(node.value, names, owner)}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            # the name was put together elsewhere: any text of this module may be it
            for kind in self._kinds(node.args[0], names, owner):
                self._program.reads |= {f"{kind}.{text}" for text in self._texts}
        self._body(node, names, owner)

    def _remember(self, owner: str, name: str, kinds: frozenset[str]) -> None:
        if kinds:
            self._program.members[name] |= kinds
            self._program.own[owner, name] |= kinds

    def _kinds(self, node: ast.AST, names: Mapping[str, frozenset[str]], owner: str) -> frozenset[str]:
        """The sections (or the tree) that an expression may be."""
        match node:
            case ast.Name(id=name):
                return names.get(name, NOTHING)
            case ast.Attribute(value=value, attr=attr):
                below = self._kinds(value, names, owner)
                if below:
                    return frozenset({attr}) if ROOT in below and attr in SECTIONS else NOTHING
                own = self._program.own.get((owner, attr))
                if own and isinstance(value, ast.Name) and value.id == "self":
                    return frozenset(own)
                return frozenset(self._program.members.get(attr, NOTHING))
            case ast.Call(func=ast.Name(id=name)) if name in TYPES:
                return frozenset({TYPES[name]})
            case ast.Call(func=ast.Attribute(attr="replace"), args=[first, *_]):
                return self._kinds(first, names, owner)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                return frozenset(self._program.members.get(name, NOTHING))
            case ast.BoolOp(values=values):
                return NOTHING.union(*(self._kinds(value, names, owner) for value in values))
            case ast.IfExp(body=body, orelse=orelse):
                return self._kinds(body, names, owner) | self._kinds(orelse, names, owner)
            case ast.NamedExpr(value=value) | ast.Await(value=value):
                return self._kinds(value, names, owner)
        return NOTHING


def _annotated(annotation: ast.AST | None) -> frozenset[str]:
    """The sections an annotation names, also as `X | None`."""
    match annotation:
        case ast.Name(id=name) if name in TYPES:
            return frozenset({TYPES[name]})
        case ast.BinOp(left=left, right=right):
            return _annotated(left) | _annotated(right)
    return NOTHING


def _assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None, ast.expr | None]]:
    """(target, value, annotation) of each single assignment in a statement."""
    match node:
        case ast.AnnAssign(target=declared, value=optional, annotation=annotation):
            yield declared, optional, annotation
        case ast.NamedExpr(target=name, value=value):
            yield name, value, None
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                    for one, its in zip(target.elts, value.elts, strict=False):
                        yield one, its, None
                else:
                    yield target, value, None
