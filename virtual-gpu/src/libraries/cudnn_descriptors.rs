//! cuDNN's descriptors of the older interface: made, set and destroyed, and never read.

use super::handle::creates;

creates! { 2000;
    cudnnCreateActivationDescriptor cudnnCreateAttnDescriptor cudnnCreateCTCLossDescriptor
    cudnnCreateConvolutionDescriptor cudnnCreateDropoutDescriptor cudnnCreateFilterDescriptor
    cudnnCreateLRNDescriptor cudnnCreateOpTensorDescriptor cudnnCreatePoolingDescriptor
    cudnnCreateRNNDataDescriptor cudnnCreateRNNDescriptor cudnnCreateReduceTensorDescriptor
    cudnnCreateSeqDataDescriptor cudnnCreateSpatialTransformerDescriptor
    cudnnCreateTensorDescriptor cudnnCreateTensorTransformDescriptor
}
