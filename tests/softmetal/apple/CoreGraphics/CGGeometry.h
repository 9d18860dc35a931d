#pragma once
using CGFloat = double;
struct CGSize {
    CGFloat width, height;
};
struct CGRect;
